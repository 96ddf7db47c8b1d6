"""Data of any form as batches in one frozen order."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from gentheory.data.fields import Fields, separated, tensors
from gentheory.errors import InputError

Batch: TypeAlias = tuple[Tensor, Tensor]


@runtime_checkable
class Batches(Protocol):
    """Batches (inputs, targets) in the same order at every pass."""

    @property
    def in_memory(self) -> bool:
        """Tensors at hand: two passes agree by construction."""
        ...

    @property
    def fields(self) -> Fields | None:
        """What the columns of the inputs are, where the data name their inputs."""
        ...

    def __iter__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class TensorBatches:
    """Two tensors, cut into batches; named inputs come packed, as `fields` says."""

    inputs: Tensor
    targets: Tensor
    batch_size: int
    in_memory: bool = True
    fields: Fields | None = None

    def __iter__(self) -> Iterator[Batch]:
        return zip(
            self.inputs.split(self.batch_size), self.targets.split(self.batch_size), strict=True
        )


@dataclass(frozen=True)
class IndexedBatches:
    """Examples of a map-style dataset, read by index: no shuffling, no example dropped."""

    dataset: Dataset[Any]
    indices: Sequence[int]
    batch_size: int
    collate: Callable[[list[Any]], Any] = default_collate
    fields: Fields | None = None
    in_memory: bool = False

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.indices), self.batch_size):
            chosen = self.indices[start : start + self.batch_size]
            yield _pair(self.collate([self.dataset[i] for i in chosen]), self.fields)


@dataclass(frozen=True)
class IterableBatches:
    """Batches of the user's own making, taken as they come."""

    batches: Iterable[Any]
    in_memory: bool = False

    @property
    def fields(self) -> Fields | None:
        """Those of the first batch, which is read for it."""
        return _fields(next(iter(self.batches), None))

    def __iter__(self) -> Iterator[Batch]:
        fields = None  # found on the way: what can be read once only is to be told so
        for batch in self.batches:
            fields = fields or _fields(batch)
            yield _pair(batch, fields)


@dataclass(frozen=True)
class ChosenBatches:
    """Of other batches the examples whose targets are chosen, in batches as full as can be."""

    source: Batches
    chosen: Callable[[Tensor], Tensor]  # targets [B, ...] -> which of them, [B]
    batch_size: int

    @property
    def in_memory(self) -> bool:
        """Whether the source is."""
        return self.source.in_memory

    @property
    def fields(self) -> Fields | None:
        """The source's."""
        return self.source.fields

    def __iter__(self) -> Iterator[Batch]:
        held: list[Batch] = []
        for inputs, targets in self.source:
            kept = self.chosen(targets)
            held.append((inputs[kept], targets[kept]))
            if sum(len(y) for _, y in held) >= self.batch_size:
                yield _joined(held)
                held = []
        if any(len(y) for _, y in held):
            yield _joined(held)


def _joined(parts: list[Batch]) -> Batch:
    inputs, targets = zip(*parts, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def batches(data: Any, *, batch_size: int) -> Batches:
    """Tensors (x, y), a `Split`, a `Dataset`, a `DataLoader` or an iterable of batches (x, y).

    In a batch x may be a mapping of named tensors, or the batch one mapping with its targets
    under one of the usual names, such as "labels".

    A `DataLoader` is read through its dataset by index, so that neither shuffling nor
    `drop_last` changes a result; of a sampler that leaves examples out, those it draws in one
    epoch are taken, once and for all. Raises `InputError` for anything that cannot be read twice.
    """
    if isinstance(data, TensorBatches):
        return data
    if hasattr(data, "inputs") and hasattr(data, "targets"):
        data = (data.inputs, data.targets)
    if isinstance(data, Sequence) and len(data) == 2 and all(map(torch.is_tensor, data)):
        return _of_tensors(*data, batch_size=batch_size)
    if isinstance(data, DataLoader):
        if isinstance(data.dataset, IterableDataset) or data.batch_sampler is None:
            return IterableBatches(data)
        chosen = _drawn(data)
        return _indexed(data.dataset, chosen, data.batch_size or batch_size, data.collate_fn)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return _indexed(data, None, batch_size, default_collate)
    if isinstance(data, Iterable) and not isinstance(data, Iterator):
        return IterableBatches(data)
    raise InputError(
        "data",
        f"{type(data).__name__}, which can be read once at most",
        "tensors (x, y), a Dataset, a DataLoader or a list of batches (x, y)",
        "hand in one of these, such as list(batches)",
    )


def _of_tensors(inputs: Tensor, targets: Tensor, *, batch_size: int) -> TensorBatches:
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise InputError(
            "data",
            f"{len(inputs)} inputs and {len(targets)} targets",
            "as many of one as of the other, and at least one",
            "hand in matching tensors",
        )
    return TensorBatches(inputs, targets, batch_size)


def _drawn(loader: DataLoader[Any]) -> Sequence[int] | None:
    """The examples of one epoch in rising order; None for all of the dataset."""
    sampler, batched = loader.sampler, loader.batch_sampler
    own = type(batched) is BatchSampler and batched.sampler is sampler
    if own and type(sampler) in (SequentialSampler, RandomSampler):
        whole = len(sampler) == len(loader.dataset)  # pyright: ignore[reportArgumentType]
        if whole and not getattr(sampler, "replacement", False):
            return None
    # Samplers draw from the global generator: fork it, so that nobody notices.
    with torch.random.fork_rng(devices=[]):
        if own:
            return sorted(sampler)
        return sorted(index for batch in batched or () for index in batch)


def _indexed(
    dataset: Dataset[Any],
    indices: Sequence[int] | None,
    batch_size: int,
    collate: Callable[[list[Any]], Any],
) -> IndexedBatches:
    if indices is None:
        indices = range(len(dataset))  # pyright: ignore[reportArgumentType]
    if len(indices) == 0:
        raise InputError("data", "an empty dataset", "at least one example", "check its source")
    fields = _fields(collate([dataset[indices[0]]]))
    return IndexedBatches(dataset, indices, batch_size, collate, fields)


def _fields(batch: Any) -> Fields | None:
    inputs = _parts(batch)[0] if batch is not None else None
    return Fields.of(inputs) if isinstance(inputs, dict) else None


def _pair(batch: Any, fields: Fields | None) -> Batch:
    inputs, targets = _parts(batch)
    if isinstance(inputs, dict):
        return (fields or Fields.of(inputs)).pack(inputs), targets
    return inputs, targets


def _parts(batch: Any) -> tuple[Tensor | dict[str, Tensor], Tensor]:
    if isinstance(batch, Mapping):
        return separated(batch)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(batch, Sequence) and len(batch) == 2:
        inputs, targets = batch
        if isinstance(inputs, Mapping):
            return tensors(inputs), torch.as_tensor(targets)
        return torch.as_tensor(inputs), torch.as_tensor(targets)
    raise InputError(
        "data",
        f"a batch that is a {type(batch).__name__}",
        "a pair (inputs, targets)",
        "wrap the data so that it yields such pairs",
    )
