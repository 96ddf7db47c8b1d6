"""A product that is linear in a vector, traced and split by what depends on the vector."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

Primals = tuple[Tensor, ...]

Product = Callable[..., Float[Tensor, " P"]]
"""(*primals, v) -> a vector linear in v [P]: one chunk's share of the sum."""

_aten = torch.ops.aten

_ZEROS = {_aten.zeros.default, _aten.zeros_like.default, _aten._efficientzerotensor.default}
_ZERO_IF_FIRST = {
    *(_aten.expand.default, _aten.view.default, _aten.t.default, _aten.transpose.int),
    *(_aten.alias.default, _aten.permute.default, _aten.unsqueeze.default),
}
_ZERO_IF_ANY = {_aten.mm.default, _aten.bmm.default, _aten.mul.Tensor}

_ADDING: dict[Any, tuple[Any, Any]] = {
    _aten.mm.default: (_aten.addmm.default, _aten.addmm_.default),
    _aten.bmm.default: (_aten.baddbmm.default, _aten.baddbmm_.default),
}
_FRESH = {
    *(_aten.mm.default, _aten.bmm.default, _aten.add.Tensor, _aten.mul.Tensor),
    *(op for pair in _ADDING.values() for op in pair),
}
"""Operations whose results share memory with nothing else that is used later."""


class UntraceableError(Exception):
    """The product cannot be traced, or its trace gives other numbers."""


@dataclass(frozen=True)
class Linear:
    """A chunk's map of a block of vectors, with the tensors it rests on."""

    apply: fx.GraphModule
    kept: tuple[Tensor, ...]
    bytes: int

    def __call__(self, v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        return self.apply(*self.kept, v)


@dataclass(frozen=True)
class Program:
    """A traced product in its two halves."""

    prepare: fx.GraphModule  # (*primals) -> kept tensors
    apply: fx.GraphModule  # (*kept tensors, v [K, P]) -> [K, P]

    def at(self, primals: Primals) -> Linear:
        """The map at these primals."""
        kept = tuple(self.prepare(*primals))
        given = {tensor.untyped_storage().data_ptr() for tensor in primals}
        own = {s.data_ptr(): s.nbytes() for s in (tensor.untyped_storage() for tensor in kept)}
        return Linear(self.apply, kept, sum(own[pointer] for pointer in own.keys() - given))


def product_of_block(product: Product, primals: Primals, v: Tensor) -> Float[Tensor, "K P"]:
    """The product of each row."""
    if len(v) == 1:  # one vector needs no batching rule, and is faster without
        return product(*primals, v[0])[None]
    return torch.func.vmap(lambda row: product(*primals, row))(v)


def trace(product: Product, primals: Primals, v: Float[Tensor, "K P"]) -> Program:
    """For primals and blocks of these shapes. Raises `UntraceableError`."""

    def whole(*arguments: Tensor) -> Tensor:
        return product_of_block(product, arguments[:-1], arguments[-1])

    probe = torch.linspace(-1, 1, v.numel(), dtype=v.dtype, device=v.device).reshape(v.shape)
    expected = whole(*primals, probe)
    try:
        # Without in-place operations: the halves run at other times than the whole did.
        graph = make_fx(torch.func.functionalize(whole))(*primals, v)
        program = _halves(graph)
        found = program.at(primals)(probe)
    except Exception as error:  # whatever a model's code meets in a tracer
        raise UntraceableError from error
    tolerance = torch.finfo(v.dtype).eps ** 0.5 * expected.abs().max()
    if not (found - expected).abs().max() <= tolerance:
        raise UntraceableError
    return program


def _halves(module: fx.GraphModule) -> Program:
    """Split a graph by whether its last argument is needed."""
    _drop_zeros(module.graph)
    module.graph.eliminate_dead_code()
    nodes = list(module.graph.nodes)
    *_, vector = (node for node in nodes if node.op == "placeholder")
    output = nodes[-1].args[0]
    dependent = {vector}
    for node in nodes[:-1]:
        if dependent.intersection(node.all_input_nodes):
            dependent.add(node)
    needed = {node for user in (*dependent, nodes[-1]) for node in user.all_input_nodes}
    kept = [node for node in nodes if node in needed and node not in dependent]
    first, second = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes[:-1]:
        if node not in dependent:
            copies[node] = first.node_copy(node, copies.__getitem__)
    first.output(tuple(copies[node] for node in kept))
    copies = {node: second.placeholder(f"kept_{index}") for index, node in enumerate(kept)}
    for node, copy in copies.items():
        copy.meta = node.meta
    for node in nodes[:-1]:
        if node in dependent:
            copies[node] = second.node_copy(node, copies.__getitem__)
    second.output(copies[output])
    _add_in_products(second)
    for graph in (first, second):
        graph.eliminate_dead_code()
    return Program(fx.GraphModule(module, first), fx.GraphModule(module, second))


def _drop_zeros(graph: fx.Graph) -> None:
    """x + 0 becomes x: the tangents of what does not depend on the parameters."""
    zeros: set[fx.Node] = set()
    for node in graph.nodes:
        inputs = node.all_input_nodes
        if (
            node.target in _ZEROS
            or (node.target in _ZERO_IF_FIRST and inputs[0] in zeros)
            or (node.target in _ZERO_IF_ANY and not zeros.isdisjoint(inputs))
        ):
            zeros.add(node)
    for node, x, y in _sums(graph):
        kept = x if y in zeros else y if x in zeros else None
        if kept is None:
            continue
        if _form(kept) == _form(node):
            node.replace_all_uses_with(kept)
        elif _form(kept)[1] == _form(node)[1] and all(u.target is node.target for u in node.users):
            with graph.inserting_before(node):
                wide = graph.call_function(_aten.expand.default, (kept, list(_form(node)[0])))
            wide.meta = node.meta
            node.replace_all_uses_with(wide)


def _add_in_products(graph: fx.Graph) -> None:
    """x + a @ b as one operation, which saves a pass over the result; in x where x is not used."""
    for node, *terms in _sums(graph):
        for x, product in (terms, terms[::-1]):
            if product.target not in _ADDING or len(product.users) > 1 or x is product:
                continue
            form = _form(node)
            if _form(product) != form or _form(x)[1] != form[1]:
                continue
            within = x.target in _FRESH and len(x.users) == 1 and _form(x) == form
            with graph.inserting_before(node):
                operation = _ADDING[product.target][within]
                fused = graph.call_function(operation, (x, *product.args))
            fused.meta = node.meta
            node.replace_all_uses_with(fused)
            graph.erase_node(node)
            graph.erase_node(product)
            break


def _sums(graph: fx.Graph) -> Iterator[tuple[fx.Node, fx.Node, fx.Node]]:
    """Nodes that are plain sums of two tensors, with their terms."""
    for node in list(graph.nodes):
        inputs = node.args
        if node.target is _aten.add.Tensor and not node.kwargs:
            x, y = inputs
            if isinstance(x, fx.Node) and isinstance(y, fx.Node):
                yield node, x, y


def _form(node: fx.Node) -> tuple[Any, ...]:
    """Shape, dtype."""
    meta = node.meta["tensor_meta"]
    return tuple(meta.shape), meta.dtype
