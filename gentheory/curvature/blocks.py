"""Diagonal blocks of an operator, such as those of the layers."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.linalg import LinearOperator, gaussian, hutchinson, largest
from gentheory.params import Layout


def diagonal_block(operator: LinearOperator, part: slice) -> LinearOperator:
    """The operator on the parameters in `part`, the others held; a product costs a full one."""

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        whole = v.new_zeros(len(v), operator.size)
        whole[:, part] = v
        return operator(whole)[:, part]

    size = part.stop - part.start
    return LinearOperator(block, size, operator.dtype, operator.device)


def block_traces(
    operator: LinearOperator, parts: Iterable[slice], *, num_probes: int, generator: Generator
) -> Float[Tensor, "K L"]:
    """Hutchinson's samples of each diagonal block's trace, from probes that are zero elsewhere.

    So what lies outside the blocks adds no variance to their sum, the trace. A block whose product
    with one Gaussian vector is zero is zero itself, with probability 1, and costs no more;
    one no larger than the number of probes is summed exactly.
    """
    samples: list[Tensor] = []
    for part in parts:
        block = diagonal_block(operator, part)
        if vanishes(operator, part, generator):
            samples.append(torch.zeros(num_probes, dtype=torch.float64, device=operator.device))
        elif block.size <= num_probes:
            samples.append(block.diagonal().double().sum().expand(num_probes))
        else:
            samples.append(hutchinson(block, num_probes=num_probes, generator=generator))
    return torch.stack(samples, dim=1)


def rescaled_block(
    operator: LinearOperator, part: slice, weight: Float[Tensor, "s m"]
) -> LinearOperator:
    """(W ⊗ I)ᵀ A (W ⊗ I) for the diagonal block A of a weight W, flat in `part`, by its rows w_s.

    Of size m²; its trace is Σ_ss' ⟨w_s, w_s'⟩ tr A_ss'.
    """
    inner, (rows, columns) = diagonal_block(operator, part), weight.shape

    def block(v: Float[Tensor, "K q"]) -> Float[Tensor, "K q"]:
        product = inner((weight @ v.unflatten(1, (columns, columns))).flatten(1))
        return (weight.T @ product.unflatten(1, (rows, columns))).flatten(1)

    return LinearOperator(block, columns**2, operator.dtype, operator.device)


def vanishes(operator: LinearOperator, part: slice, generator: Generator) -> bool:
    """Whether a diagonal block is zero: its product with one Gaussian vector is but rounding."""
    whole = torch.zeros(operator.size, dtype=operator.dtype, device=operator.device)
    whole[part] = gaussian(1, diagonal_block(operator, part), generator)[0]
    product = operator(whole)
    rounding = 10 * torch.finfo(operator.dtype).eps * product.norm()
    return bool(product[part].norm() <= rounding)


def block_tops(
    operator: LinearOperator, parts: Iterable[slice], *, rtol: float, generator: Generator
) -> tuple[Float[Tensor, " L"], Float[Tensor, " L"]]:
    """Each diagonal block's largest eigenvalue, and the residual of its eigenvector."""
    blocks = [diagonal_block(operator, part) for part in parts]
    found = [largest(block, 1, rtol=rtol, generator=generator) for block in blocks]
    values = torch.cat([pairs.values for pairs in found])
    return values, torch.cat([pairs.residuals for pairs in found])


def sum_in(layout: Layout, values: Mapping[str, Tensor], part: slice) -> Tensor:
    """Sum of the values of the parameters that lie in `part` of theta."""
    inside = [values[n] for n, own in layout.slices.items() if part.start <= own.start < part.stop]
    return torch.stack(inside).sum()
