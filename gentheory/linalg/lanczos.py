"""Extreme eigenpairs by thick-restart Lanczos with full reorthogonalization  (Wu & Simon 2000)."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.errors import InputError
from gentheory.linalg.krylov import Basis
from gentheory.linalg.operator import LinearOperator


@dataclass(frozen=True)
class Eigenpairs:
    """k eigenpairs from one end of the spectrum, the outermost first."""

    values: Float[Tensor, " k"]  # float64
    vectors: Float[Tensor, "k P"]  # unit rows
    residuals: Float[Tensor, " k"]  # |A x − value x| by Lanczos' relation, with rounding; float64
    num_products: int
    converged: bool  # every residual is at most rtol · |largest eigenvalue in size|
    missed: float
    """Bound on the chance, over the last random start, that one more belongs among them: for k > 1
    that one of those beyond the k-th comes more often, for k = 1 that there is one further out by
    rtol · |largest|. nan where a restart lost track."""


def largest(
    operator: LinearOperator,
    k: int,
    *,
    rtol: float = 1e-4,
    max_steps: int = 300,
    max_memory: int | None = None,
    max_missed: float = 0.01,
    generator: Generator,
) -> Eigenpairs:
    """The k algebraically largest, to residuals below rtol · |λ|max.

    The basis is reorthogonalized twice at each step, so no eigenvalue comes as a ghost copy; the
    projected matrix is float64. One start sees one vector of each eigenspace. For k > 1 the basis
    is therefore extended from another random start, orthogonal to all of it, until a further
    eigenvector of an eigenvalue above the k-th could only be missing if that start had next to
    none of it: its share is at most Π β_i / Π (λ − θ_i), with the new run's own coefficients β and
    Ritz values θ, for no monic polynomial makes the start shorter. What is found is brought to
    convergence and the search goes on, so a multiple eigenvalue comes as often as it is one. It
    ends when the chance that one was missed is at most `max_missed`; inf does without it.

    At most `max_steps` products. Memory for as many vectors of size P as there are steps, or
    `max_memory` bytes: where the basis would exceed that, it is restarted from its best Ritz
    vectors. Fewer than k pairs where the operator's size or `max_steps` is smaller. Raises
    `InputError` for a budget too small for k vectors and a few more, and for an operator that is
    not symmetric; `FloatingPointError` for a product that is not finite.
    """
    limits = _Limits(rtol, max_steps, max_memory, max_missed)
    return _search(operator, 0, k, limits, generator)[0]


def smallest(
    operator: LinearOperator,
    k: int,
    *,
    rtol: float = 1e-4,
    max_steps: int = 300,
    max_memory: int | None = None,
    max_missed: float = 0.01,
    generator: Generator,
) -> Eigenpairs:
    """The k algebraically smallest, smallest first; as `largest`, on the negative operator."""
    negative = replace(operator, block=lambda v: -operator.block(v))
    limits = _Limits(rtol, max_steps, max_memory, max_missed)
    found = _search(negative, 0, k, limits, generator)[0]
    return replace(found, values=-found.values)


def extremes(
    operator: LinearOperator,
    *,
    rtol: float = 1e-4,
    max_steps: int = 300,
    max_memory: int | None = None,
    generator: Generator,
) -> tuple[Eigenpairs, Eigenpairs]:
    """The smallest and the largest eigenpair from one run; otherwise as `largest` with k = 1."""
    ends = _search(operator, 1, 1, _Limits(rtol, max_steps, max_memory), generator)
    return ends[0], ends[-1]  # one and the same where the operator's size is 1


@dataclass(frozen=True)
class _Limits:
    rtol: float
    max_steps: int
    max_memory: int | None
    max_missed: float = math.inf


def _search(
    operator: LinearOperator, low: int, high: int, limits: _Limits, generator: Generator
) -> list[Eigenpairs]:
    """`low` pairs from the bottom, `high` from the top; high > 1 looks for multiplicities."""
    rtol, max_steps, max_memory = limits.rtol, limits.max_steps, limits.max_memory
    high = min(high, max_steps, operator.size)
    low = min(low, operator.size - high)
    room = _room(operator, low + high, max_steps, max_memory)
    basis = Basis(operator, room, generator, at_once=max_memory is not None)
    searching = False
    while basis.products < max_steps and basis.count < operator.size:
        if basis.full:
            basis.restart(low, high + (basis.count - low - high) // 2)
        basis.expand()
        # A look costs an eigendecomposition: next to nothing where vectors are long.
        due = basis.count**2 < 4 * operator.size or basis.products % 5 == 0 or basis.exhausted
        if basis.count < low + high or not due:
            continue
        values, _, residuals = basis.ritz(low, high)
        # What a restart drops stays in the residuals: under a budget, stop with some to spare.
        allowed = rtol * basis.scale * (0.5 if max_memory is not None and not searching else 1)
        if bool((residuals > allowed).any()):
            searching = False
            continue
        floor = _floor(values[-high:], rtol * basis.scale)
        chance = 0.0 if floor is None else basis.missed(floor)
        if chance <= limits.max_missed or (searching and _next_is_below(basis, high, rtol)):
            break
        if not searching or chance == math.inf:
            searching = True
            if max_memory is not None:
                basis.restart(low, high)
            basis.begin()
    return _pairs(basis, low, high, rtol)


def _floor(values: Float[Tensor, " k"], allowed: Tensor) -> Tensor | None:
    """Where a copy of a found eigenvalue would displace the k-th; None where all are the k-th."""
    above = values[values > values[0] + allowed]
    return above[0] - allowed if len(above) else None


def _next_is_below(basis: Basis, high: int, rtol: float) -> bool:
    """After a restart, which voids the other test: the next eigenvalue is known well enough."""
    if not basis.restarted or basis.count == high:
        return False
    values, _, residuals = basis.ritz(0, high + 1)
    return bool(values[0] + residuals[0] <= values[1] + rtol * basis.scale)


def _pairs(basis: Basis, low: int, high: int, rtol: float) -> list[Eigenpairs]:
    values, y, residuals = basis.ritz(low, high)
    vectors, allowed = basis.vectors(y), rtol * basis.scale
    residuals = residuals + torch.finfo(vectors.dtype).eps * basis.scale

    def end(chosen: Tensor, sign: int) -> Eigenpairs:
        met = bool((residuals[chosen] <= allowed).all())
        outer = _floor(sign * values[chosen].flip(0), allowed)
        floor = values[chosen[-1]] + sign * allowed if outer is None else sign * outer
        missed = min(basis.missed(floor, sign), 1.0)
        pairs = values[chosen], vectors[chosen], residuals[chosen]
        return Eigenpairs(*pairs, basis.products, met, missed)

    index = torch.arange(low + high, device=values.device)
    ends = ((index[:low], -1), (index[low:].flip(0), 1))
    return [end(chosen, sign) for chosen, sign in ends if len(chosen)]


def _room(operator: LinearOperator, k: int, max_steps: int, max_memory: int | None) -> int:
    """Rows of the basis: as many as steps, or as the budget holds beside the results."""
    wanted = min(max_steps, operator.size) + 1
    if max_memory is None:
        return wanted
    row = operator.size * torch.empty((), dtype=operator.dtype).element_size()
    # Beside the basis live the k results, a product with what makes it, what a run left behind.
    room, least = max_memory // row - k - 6, min(wanted, 2 * k + 10)
    if room < least:
        raise InputError(
            "max_memory",
            f"{max_memory} bytes for {k} eigenvectors of {operator.size} numbers",
            f"at least {(least + k + 6) * row}",
            "raise max_memory or ask for fewer eigenpairs",
        )
    return min(room, wanted)
