"""Stochastic Lanczos quadrature: spectral densities and traces of functions of an operator.

(Bai, Fahey & Golub 1996; Lin, Saad & Yang 2016; Ubaru, Chen & Saad 2017.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.errors import InputError
from gentheory.estimate import Density
from gentheory.linalg.operator import LinearOperator, check_products
from gentheory.linalg.probes import rademacher


@dataclass(frozen=True)
class Quadrature:
    """K independent discrete measures, each a random stand-in for the spectrum of the operator."""

    nodes: Float[Tensor, "K T"]  # rising; float64
    weights: Float[Tensor, "K T"]  # none negative, a row sums to 1; float64
    size: int  # of the operator

    def traces(self, function: Callable[[Tensor], Tensor]) -> Float[Tensor, " K"]:
        """K independent samples of tr f(A) = Σ f(λ), up to the quadrature's own error."""
        return self.size * (self.weights * function(self.nodes)).sum(1)

    def density(self, *, num_points: int = 512, width: float | None = None) -> Density:
        """Each probe's nodes as normal distributions, on a grid common to all probes.

        `width` is their standard deviation, a hundredth of the spectrum's range unless given. The
        grid reaches five of them beyond the extreme nodes of all probes; it is refined beyond
        `num_points` where it would be coarser than half the width. Each kernel is normalized on
        the grid, so the mass is 1. `band` is the standard error over the probes, point by point.
        """
        present = self.weights > torch.finfo(self.weights.dtype).eps
        low, high = self.nodes[present].min(), self.nodes[present].max()
        if width is None:
            spread = torch.maximum(high - low, torch.maximum(high.abs(), low.abs()) / 100)
            width = float(spread) / 100 or 1.0
        reach = float(high - low) + 10 * width
        count = max(num_points, int(2 * reach / width) + 2)
        grid = torch.linspace(0, 1, count, dtype=low.dtype, device=low.device)
        grid = low - 5 * width + reach * grid
        step = reach / (count - 1)
        rows = [
            _smoothed(grid, n, w, width, step)
            for n, w in zip(self.nodes, self.weights, strict=True)
        ]
        density = torch.stack(rows)
        error = density.std(0) / len(rows) ** 0.5
        return Density(grid, density.mean(0), error, width, self.nodes, self.weights)


def lanczos_quadrature(
    operator: LinearOperator,
    *,
    num_probes: int,
    num_steps: int,
    max_memory: int | None = None,
    generator: Generator,
) -> Quadrature:
    """Gauss quadratures of `num_steps` nodes from Lanczos on Rademacher probes.

    A probe's nodes and weights integrate polynomials up to degree 2 · num_steps − 1 exactly, with
    the spectral measure that its probe sees, whose mean over probes is that of the operator. All
    probes advance together, a block product a step, each with full reorthogonalization in a basis
    of its own: num_probes · num_steps vectors of size P, or as many probes at once as fit into
    `max_memory` bytes. The tridiagonal matrices are float64. A probe whose Krylov space is
    exhausted is complete and its further weights are 0. Raises `InputError` for a budget too small
    for one probe and an operator that is not symmetric, `FloatingPointError` for a product that
    is not finite.
    """
    num_steps = min(num_steps, operator.size)
    at_once = _at_once(operator, num_probes, num_steps, max_memory)
    # Probes first, so that they do not depend on the budget.
    probes = rademacher(num_probes, operator, generator)
    parts = [_tridiagonal(operator, part, num_steps) for part in probes.split(at_once)]
    tridiagonal = torch.cat(parts)
    if not bool(tridiagonal.isfinite().all()):
        raise FloatingPointError("quadrature: a product with the operator is not finite")
    nodes, vectors = torch.linalg.eigh(tridiagonal)
    return Quadrature(nodes, vectors[:, 0].square(), operator.size)


def dense_quadrature(operator: LinearOperator) -> Quadrature:
    """Every eigenvalue, as a quadrature of one exact sample; takes P² numbers."""
    matrix = operator.dense().double()
    nodes = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    return Quadrature(nodes[None], torch.full_like(nodes, 1 / len(nodes))[None], len(nodes))


def _tridiagonal(
    operator: LinearOperator, probes: Float[Tensor, "K P"], num_steps: int
) -> Float[Tensor, "K T T"]:
    count = len(probes)
    basis = torch.empty(
        count, num_steps, operator.size, dtype=operator.dtype, device=operator.device
    )
    matrix = torch.zeros(count, num_steps, num_steps, dtype=torch.float64, device=operator.device)
    q = probes / probes.norm(dim=1, keepdim=True)
    for step in range(num_steps):
        basis[:, step] = q
        known = basis[:, : step + 1]
        w = operator(q)
        if step == 0:
            check_products("quadrature", q, w)
        apart = [_apart(row, rows) for row, rows in zip(w, known, strict=True)]
        w, matrix[:, step, step] = (torch.stack(part) for part in zip(*apart, strict=True))
        beta = w.double().norm(dim=1)
        # An exhausted probe goes on with zeros, which take no weight.
        rounding = 10 * torch.finfo(operator.dtype).eps * matrix.flatten(1).abs().amax(1)
        beta = beta.where(beta > rounding, 0.0)
        q = w * (1 / beta).where(beta > 0, 0.0)[:, None].to(w)
        if step + 1 < num_steps:
            matrix[:, step, step + 1] = matrix[:, step + 1, step] = beta
    return matrix


def _apart(
    w: Float[Tensor, " P"], known: Float[Tensor, "T P"]
) -> tuple[Float[Tensor, " P"], Float[Tensor, ""]]:
    """w without its part in the basis, and its component along the last row.

    By the recurrence's two terms first: what they leave is so short that once through all rows is
    enough. One probe at a time, for a batch of products of matrices with vectors is far slower.
    """
    near = known[-2:]
    first = near @ w
    w = w - first @ near
    second = known @ w
    return w - second @ known, first[-1].double() + second[-1]


def _at_once(
    operator: LinearOperator, num_probes: int, num_steps: int, max_memory: int | None
) -> int:
    """Probes that fit into the budget together, with a product and what makes it."""
    if max_memory is None:
        return num_probes
    one = (num_steps + 4) * operator.size * torch.empty((), dtype=operator.dtype).element_size()
    if one > max_memory:
        raise InputError(
            "max_memory",
            f"{max_memory} bytes for {num_steps} steps of {operator.size} numbers",
            f"at least {one}",
            "raise max_memory or take fewer steps",
        )
    return min(num_probes, max_memory // one)


def _smoothed(
    grid: Tensor,
    nodes: Float[Tensor, " T"],
    weights: Float[Tensor, " T"],
    width: float,
    step: float,
) -> Tensor:
    kernels = (-0.5 * ((grid[:, None] - nodes) / width).square()).exp()
    # By the trapezoidal rule; the ends of the grid are five widths away, where kernels are ~0.
    mass = step * (kernels.sum(0) - (kernels[0] + kernels[-1]) / 2)
    return kernels @ (weights / mass.where(mass > 0, 1.0))
