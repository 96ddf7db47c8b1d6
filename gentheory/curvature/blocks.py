"""Diagonal blocks of an operator, such as those of the layers."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.linalg import LinearOperator, rademacher
from gentheory.linalg.operator import check_products
from gentheory.params import Layout


def layers(layout: Layout) -> dict[str, slice]:
    """Where in theta each layer lies: the module that owns the parameters, "." for the net itself.

    A tied parameter belongs to the first module that names it.
    """
    found: dict[str, slice] = {}
    for name, part in layout.slices.items():
        owner = name.rpartition(".")[0] or "."
        # A module's own parameters follow each other in the module's order.
        found[owner] = slice(found[owner].start if owner in found else part.start, part.stop)
    return found


def diagonal_block(operator: LinearOperator, part: slice) -> LinearOperator:
    """The operator on the parameters in `part`, the others held; a product costs a full one."""

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        whole = v.new_zeros(len(v), operator.size)
        whole[:, part] = v
        return operator(whole)[:, part]

    size = part.stop - part.start
    return LinearOperator(block, size, operator.dtype, operator.device)


def block_traces(
    operator: LinearOperator, parts: Sequence[slice], *, num_probes: int, generator: Generator
) -> Float[Tensor, "K L"]:
    """Hutchinson's samples of every diagonal block's trace, from the same K full products."""
    z = rademacher(num_probes, operator, generator)
    product = operator(z)
    check_products("block_traces", z, product)
    terms = z.double() * product.double()
    return torch.stack([terms[:, part].sum(1) for part in parts], dim=1)


def sum_in(layout: Layout, values: Mapping[str, Tensor], part: slice) -> Tensor:
    """Sum of the values of the parameters that lie in `part` of theta."""
    inside = [values[n] for n, own in layout.slices.items() if part.start <= own.start < part.stop]
    return torch.stack(inside).sum()
