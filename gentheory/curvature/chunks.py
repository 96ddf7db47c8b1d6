"""Data cut into chunks that suit the caches, whatever batches they come in."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gentheory.risk import EmpiricalRisk

_TENSOR = 3 * 2**20
"""Bytes of a mean activation of a chunk: less, and operations' overhead shows; more, and they
leave the caches."""

_PARAMETERS = 16
"""Activations of a chunk over the bytes of the parameters, which every chunk goes through too."""

_MOST = 2**28
"""Bytes of a chunk's activations, whatever the rest says."""


def in_chunks(
    risk: EmpiricalRisk, batches: Iterator[tuple[Tensor, ...]]
) -> Iterator[tuple[Tensor, ...]]:
    """Batches of tensors over the risk's examples, joined and cut anew."""
    size = chunk_size(risk)
    waiting: list[tuple[Tensor, ...]] = []
    for batch in batches:
        if waiting and not _alike(waiting[0], batch):
            yield from _cut(waiting, size)
            waiting = []
        waiting.append(batch)
        if sum(len(held[0]) for held in waiting) >= size:
            *whole, last = _cut(waiting, size)
            yield from whole
            waiting = [last]
    yield from _cut(waiting, size)


def chunk_size(risk: EmpiricalRisk) -> int:
    """Examples whose activations suit the caches; somewhat fewer where that makes chunks equal.

    Each other size would be traced anew.
    """
    count = risk.num_examples
    fewest = -(-count // _wanted(risk))
    equal = next((n for n in range(fewest, 2 * fewest) if count % n == 0), fewest)
    return -(-count // equal)


def block_width(risk: EmpiricalRisk) -> int:
    """Vectors at once that fill the caches where the examples alone do not."""
    return max(1, _wanted(risk) // chunk_size(risk))


def _wanted(risk: EmpiricalRisk) -> int:
    """Examples, if there are as many."""
    return risk.once("examples wanted in a chunk", lambda: _of_activations(risk))


def _of_activations(risk: EmpiricalRisk) -> int:
    inputs = next(risk.batches())[0][:1]
    with torch.no_grad(), _Allocated() as allocated:
        risk.outputs(risk.theta, inputs)
    sizes = allocated.sizes(risk.theta)
    parameters = _PARAMETERS * risk.theta.untyped_storage().nbytes()
    return max(1, min(max(_TENSOR * len(sizes), parameters), _MOST) // max(1, sum(sizes)))


class _Allocated(TorchDispatchMode):
    """Holds on to whatever is computed."""

    def __init__(self) -> None:
        super().__init__()
        self._storages: dict[int, torch.UntypedStorage] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._storages[storage.data_ptr()] = storage
        return result

    def sizes(self, given: Tensor) -> list[int]:
        """Bytes of each storage but that of the given tensor."""
        own = given.untyped_storage().data_ptr()
        return [s.nbytes() for pointer, s in self._storages.items() if pointer != own]


def _cut(batches: list[tuple[Tensor, ...]], size: int) -> Iterator[tuple[Tensor, ...]]:
    joined = [each[0] if len(each) == 1 else torch.cat(each) for each in zip(*batches, strict=True)]
    return zip(*(tensor.split(size) for tensor in joined), strict=True)


def _alike(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(a.shape[1:] == b.shape[1:] for a, b in zip(one, other, strict=True))
