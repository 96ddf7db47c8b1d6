"""Sums over the data of products that are linear in a vector, linearized once and reused.

A product such as a Hessian's recomputes the whole forward and backward pass for every vector.
Traced once, its graph falls apart into what depends on the vector and what does not; the latter
is computed once a chunk of examples and kept, as far as memory may be used for it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from gentheory.data.batches import Batch

Primals = tuple[Tensor, ...]

Product = Callable[..., Float[Tensor, " P"]]
"""(*primals, v) -> a vector linear in v [P]: one chunk's share of the sum."""

MAX_BLOCK = 32
"""Vectors at once: beyond a few dozen a block only costs memory."""

MAX_MEMORY = 2**30
"""Bytes of kept tensors."""

_CHUNK = 256
"""Examples at once: the activations of larger chunks leave the caches and cost page faults."""

_TRACING = 2**27
"""Work of plain products that takes about as long as tracing does."""

_OVERHEAD = 2**22
"""A plain product's work beside its examples · parameters."""

_SMALL = 2**22
"""Examples · parameters of a chunk below which overhead dominates, and vectors go as a block."""


def chunked(batch: Batch) -> Iterator[Batch]:
    """The batch in chunks that suit the caches."""
    count = math.ceil(len(batch[0]) / _CHUNK)  # of one size where that goes: each is traced anew
    return zip(*(tensor.chunk(count) for tensor in batch), strict=True)


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
    max_memory: int = MAX_MEMORY
    _work: int = 0
    _traceable: bool = True
    _programs: dict[object, "_Program"] = field(default_factory=dict[object, "_Program"])
    _passes: dict[int, "_Pass"] = field(default_factory=dict[int, "_Pass"])

    def __call__(self, v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        """The sums."""
        if self._traceable and self._work >= _TRACING:
            try:
                return self._linear(v)
            except _UntraceableError:
                self._traceable = False
                self._passes.clear()
        return self._plain(v)

    def _plain(self, v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        total = torch.zeros_like(v, dtype=torch.float64)
        for primals in self.chunks():
            self._work += len(primals[-1]) * v.numel() + _OVERHEAD
            for part, rows in _parts(MAX_BLOCK, v, total):
                rows += _product_of_block(self.product, primals, part)
        return total

    def _linear(self, v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        total = torch.zeros_like(v, dtype=torch.float64)
        width = MAX_BLOCK if _CHUNK * v.shape[1] <= _SMALL else 1
        for count in {len(part) for part in v.split(width)}:
            size = self._size(count)
            for linear in self._linears(v.new_zeros(size, v.shape[1])):
                for part, rows in _parts(width, v, total):
                    if len(part) == count:
                        rows += linear(F.pad(part, (0, 0, 0, size - count)))[:count]
        return total

    def _size(self, count: int) -> int:
        """Of the traced blocks that take `count` vectors: zeros cost less than another trace.

        A solver's block shrinks by a row at a time; a single vector is worth a trace of its own.
        """
        known = [size for size in self._passes if count <= size <= 2 * count]
        return 1 if count == 1 else min(known, default=count)

    def _linears(self, like: Float[Tensor, "K P"]) -> Iterator["_Linear"]:
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

    def _program(self, primals: Primals, like: Float[Tensor, "K P"]) -> "_Program":
        """The traced product, by the shapes it was traced with."""
        key = (*((tensor.shape, tensor.dtype) for tensor in primals), like.shape)
        if key not in self._programs:
            self._programs[key] = _trace(self.product, primals, like)
        return self._programs[key]


@dataclass
class _Pass:
    """What is kept for blocks of one size: the first chunks, or all of them."""

    linears: list["_Linear"] = field(default_factory=list["_Linear"])
    complete: bool = False


@dataclass(frozen=True)
class _Linear:
    """A chunk's map of a block of vectors, with the tensors it rests on."""

    apply: fx.GraphModule
    kept: tuple[Tensor, ...]
    bytes: int

    def __call__(self, v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        return self.apply(*self.kept, v)


@dataclass(frozen=True)
class _Program:
    """A traced product in its two halves."""

    prepare: fx.GraphModule  # (*primals) -> kept tensors
    apply: fx.GraphModule  # (*kept tensors, v [K, P]) -> [K, P]

    def at(self, primals: Primals) -> _Linear:
        kept = tuple(self.prepare(*primals))
        given = {tensor.untyped_storage().data_ptr() for tensor in primals}
        own = {s.data_ptr(): s.nbytes() for s in (tensor.untyped_storage() for tensor in kept)}
        return _Linear(self.apply, kept, sum(own[pointer] for pointer in own.keys() - given))


class _UntraceableError(Exception):
    """The product cannot be traced, or its trace gives other numbers."""


def _product_of_block(product: Product, primals: Primals, v: Tensor) -> Float[Tensor, "K P"]:
    if len(v) == 1:  # one vector needs no batching rule, and is faster without
        return product(*primals, v[0])[None]
    return torch.func.vmap(lambda row: product(*primals, row))(v)


def _parts(width: int, *blocks: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(block.split(width) for block in blocks), strict=True)


def _trace(product: Product, primals: Primals, v: Float[Tensor, "K P"]) -> _Program:
    def whole(*arguments: Tensor) -> Tensor:
        return _product_of_block(product, arguments[:-1], arguments[-1])

    probe = torch.linspace(-1, 1, v.numel(), dtype=v.dtype, device=v.device).reshape(v.shape)
    expected = whole(*primals, probe)
    try:
        # Without in-place operations: the halves run at other times than the whole did.
        graph = make_fx(torch.func.functionalize(whole))(*primals, v)
        program = _halves(graph)
        found = program.at(primals)(probe)
    except Exception as error:  # whatever a model's code meets in a tracer
        raise _UntraceableError from error
    tolerance = torch.finfo(v.dtype).eps ** 0.5 * expected.abs().max()
    if not (found - expected).abs().max() <= tolerance:
        raise _UntraceableError
    return program


def _halves(module: fx.GraphModule) -> _Program:
    """Split a graph by whether its last argument is needed."""
    nodes = list(module.graph.nodes)
    *_, vector = (node for node in nodes if node.op == "placeholder")
    output = nodes[-1].args[0]
    dependent = {vector}
    for node in nodes[:-1]:
        if dependent.intersection(node.all_input_nodes):
            dependent.add(node)
    needed = [node for user in (*dependent, nodes[-1]) for node in user.all_input_nodes]
    kept = [node for node in nodes if node in needed and node not in dependent]
    first, second = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes[:-1]:
        if node not in dependent:
            copies[node] = first.node_copy(node, copies.__getitem__)
    first.output(tuple(copies[node] for node in kept))
    copies = {node: second.placeholder(f"kept_{index}") for index, node in enumerate(kept)}
    for node in nodes[:-1]:
        if node in dependent:
            copies[node] = second.node_copy(node, copies.__getitem__)
    second.output(copies[output])
    for graph in (first, second):
        graph.eliminate_dead_code()
    return _Program(fx.GraphModule(module, first), fx.GraphModule(module, second))
