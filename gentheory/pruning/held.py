"""The training examples that a criterion looks at: drawn once, read once, kept in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gentheory.data.batches import Batches, IndexedBatches, TensorBatches, batches
from gentheory.errors import InputError, check_at_least
from gentheory.seeds import generator


@dataclass(frozen=True)
class Held:
    """At most `max_examples` of the data, the same for every model; fewer are a part of more.

    The draw depends on `seed` alone. Data that cannot be read twice are refused, and so are
    those that are not the same at a second look; the global random generator stays as it is.
    """

    source: Batches
    batch_size: int
    max_examples: int | None
    seed: int

    @classmethod
    def of(cls, data: Any, *, batch_size: int, max_examples: int | None, seed: int) -> "Held":
        """Of anything that `EmpiricalRisk` takes. One example is read at most, for its form."""
        if max_examples is not None:
            check_at_least("max_examples", max_examples, 1)
        with torch.random.fork_rng(devices=[]):  # data may draw from the global generator
            source = batches(data, batch_size=batch_size)
        return cls(source, batch_size, max_examples, seed)

    @cached_property
    def total(self) -> int:
        """How many examples there are; data that do not know it are read for it."""
        if isinstance(self.source, IndexedBatches):
            return len(self.source.indices)
        if isinstance(self.source, TensorBatches):
            return len(self.source.inputs)
        with torch.random.fork_rng(devices=[]):
            return sum(len(targets) for _, targets in self.source)

    @property
    def count(self) -> int:
        """How many of them are held."""
        return self.total if self.max_examples is None else min(self.max_examples, self.total)

    def first(self, count: int) -> TensorBatches:
        """So many of the held examples, in the order of the data."""
        inputs, targets = self._read
        if count < self.count:
            # Places among those held, which lie in the order of the data.
            places = self._order[: self.count].argsort().argsort()[:count].sort().values
            inputs, targets = inputs[places], targets[places]
        return TensorBatches(inputs, targets, self.batch_size, fields=self.source.fields)

    @cached_property
    def _order(self) -> Tensor:
        return torch.randperm(self.total, generator=generator(self.seed, "pruning", "examples"))

    @cached_property
    def _read(self) -> tuple[Tensor, Tensor]:
        if isinstance(self.source, TensorBatches) and self.count == self.total:
            return self.source.inputs, self.source.targets
        chosen: list[int] = self._order[: self.count].sort().values.tolist()
        with torch.random.fork_rng(devices=[]):
            found = _chosen(self.source, chosen)
            again = found if self.source.in_memory else _chosen(self.source, chosen)
        if not all(map(_same, found, again)):
            raise InputError(
                "data",
                "other values on the second pass than on the first",
                "the same examples in the same order at every pass",
                "switch off shuffling and augmentation in what the criterion reads",
            )
        return found


def _chosen(source: Batches, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The examples at these rising places; nothing else is read where places can be asked for."""
    if isinstance(source, IndexedBatches):
        parts = list(replace(source, indices=[source.indices[i] for i in chosen]))
    elif isinstance(source, TensorBatches):
        parts = [(source.inputs[list(chosen)], source.targets[list(chosen)])]
    else:
        parts = list(_picked(source, chosen))
    inputs, targets = zip(*parts, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def _picked(source: Batches, chosen: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    start, wanted = 0, torch.tensor(chosen)
    for inputs, targets in source:
        here = wanted[(wanted >= start) & (wanted < start + len(targets))] - start
        if len(here):
            yield inputs[here], targets[here]
        start += len(targets)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
