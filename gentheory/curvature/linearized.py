"""Sums over the data of products that are linear in a vector, linearized once and reused.

A product such as a Hessian's recomputes the whole forward and backward pass for every vector.
Traced once, its graph falls apart into what depends on the vector and what does not; the latter
is computed once a chunk of examples and kept, as far as memory may be used for it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gentheory.curvature.tracing import (
    Linear,
    Primals,
    Product,
    Program,
    UntraceableError,
    product_of_block,
    trace,
)

MAX_BLOCK = 32
"""Vectors at once: beyond a few dozen a block only costs memory."""

MAX_MEMORY = 2**30
"""Bytes of kept tensors."""

_TRACING = 2**27
"""Work of plain products that takes about as long as tracing does."""

_OVERHEAD = 2**22
"""A plain product's work beside its examples · parameters."""


@dataclass
class Linearized:
    """v [K, P] ↦ Σ over chunks of product(*primals, v), in float64.

    The first products are plain. Once they have done as much work as tracing costs, the product
    is linearized; it stays plain for a model that cannot be traced, or whose trace gives other
    numbers. Of chunks beyond `max_memory` what does not depend on the vectors is computed anew
    for each block of them. The last of the primals has the examples for its first axis.
    """

    product: Product
    chunks: Callable[[], Iterator[Primals]]
    width: Callable[[], int]  # vectors at once, as far as they pay
    max_memory: int = MAX_MEMORY
    _work: int = 0
    _traceable: bool = True
    _programs: dict[object, Program] = field(default_factory=dict[object, Program])
    _passes: dict[int, "_Pass"] = field(default_factory=dict[int, "_Pass"])

    def __call__(self, v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        """The sums."""
        if self._traceable and self._work >= _TRACING:
            try:
                return self._linear(v)
            except UntraceableError:
                self._traceable = False
                self._passes.clear()
        return self._plain(v)

    def _plain(self, v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        total = torch.zeros_like(v, dtype=torch.float64)
        for primals in self.chunks():
            self._work += len(primals[-1]) * v.numel() + _OVERHEAD
            for part, rows in _parts(self._width, v, total):
                rows += product_of_block(self.product, primals, part)
        return total

    def _linear(self, v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        total = torch.zeros_like(v, dtype=torch.float64)
        width = self._width
        for count in {len(part) for part in v.split(width)}:
            size = self._size(count)
            for linear in self._linears(v.new_zeros(size, v.shape[1])):
                for part, rows in _parts(width, v, total):
                    if len(part) == count:
                        rows += linear(F.pad(part, (0, 0, 0, size - count)))[:count]
        return total

    @property
    def _width(self) -> int:
        return min(self.width(), MAX_BLOCK)

    def _size(self, count: int) -> int:
        """Of the traced blocks that take `count` vectors: zeros cost less than another trace.

        A solver's block shrinks by a row at a time; a single vector is worth a trace of its own.
        """
        known = [size for size in self._passes if count <= size <= 2 * count]
        return 1 if count == 1 else min(known, default=count)

    def _linears(self, like: Float[Tensor, "K P"]) -> Iterator[Linear]:
        """The map of blocks of this size for each chunk: the kept ones, then the others."""
        kept = self._passes.setdefault(len(like), _Pass())
        yield from kept.linears
        count, known = 0, len(kept.linears)
        for count, primals in enumerate(() if kept.complete else self.chunks(), start=1):
            if count <= known:
                continue
            linear = self._program(primals, like).at(primals)
            used = sum(each.bytes for other in self._passes.values() for each in other.linears)
            if len(kept.linears) == count - 1 and used + linear.bytes <= self.max_memory:
                kept.linears.append(linear)
            yield linear
        kept.complete |= count == len(kept.linears)

    def _program(self, primals: Primals, like: Float[Tensor, "K P"]) -> Program:
        """The traced product, by the shapes it was traced with."""
        key = (*((tensor.shape, tensor.dtype) for tensor in primals), like.shape)
        if key not in self._programs:
            self._programs[key] = trace(self.product, primals, like)
        return self._programs[key]


@dataclass
class _Pass:
    """What is kept for blocks of one size: the first chunks, or all of them."""

    linears: list[Linear] = field(default_factory=list[Linear])
    complete: bool = False


def _parts(width: int, *blocks: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(block.split(width) for block in blocks), strict=True)
