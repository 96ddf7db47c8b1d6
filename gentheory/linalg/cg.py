"""Preconditioned conjugate gradients on a block of right-hand sides  (Hestenes & Stiefel 1952)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.errors import InputError
from gentheory.linalg.operator import LinearOperator

Block = Callable[[Float[Tensor, "K P"]], Float[Tensor, "K P"]]


@dataclass(frozen=True)
class Solution:
    """x with (A + shift) x = b, a row a right-hand side."""

    x: Float[Tensor, "K P"]
    num_steps: int  # products with a block; those that recompute residuals come on top of max_steps
    residuals: Float[Tensor, " K"]  # |b − (A + shift) x| / |b|, recomputed from x; float64
    converged: bool  # every residual is at most rtol


def cg(
    operator: LinearOperator,
    rhs: Float[Tensor, "K P"],
    *,
    shift: float = 0.0,
    preconditioner: Block | None = None,
    rtol: float = 1e-6,
    max_steps: int = 1000,
) -> Solution:
    """Solve (A + shift) x = b for each row b, A + shift symmetric positive definite.

    All rows share one block product a step, and each has its own step sizes (in float64); a row
    at rtol is left alone while the others go on. The recurrence's residual drifts from the true
    one by rounding, so where they differ the iteration starts again from the true one, as long as
    that halves it. `preconditioner` approximates v ↦ (A + shift)⁻¹ v on blocks and must be
    positive definite. Raises `InputError` on meeting a direction of negative curvature,
    `FloatingPointError` on a product that is not finite.
    """
    size = rhs.double().norm(dim=1)
    x, left, steps = torch.zeros_like(rhs), rhs, 0
    residuals = (size > 0).double()
    while steps < max_steps and bool((residuals > rtol).any()):
        step, used = _solve(
            operator, left, shift, preconditioner or _identity, rtol * size, max_steps - steps
        )
        x = x + step
        left = rhs - operator(x) - shift * x
        steps += used + 1
        before, residuals = residuals, left.double().norm(dim=1) / size.where(size > 0, 1.0)
        if not bool((residuals > rtol).logical_and(residuals < before / 2).any()):
            break
    return Solution(x, steps, residuals, bool((residuals <= rtol).all()))


def _solve(
    operator: LinearOperator,
    rhs: Float[Tensor, "K P"],
    shift: float,
    precondition: Block,
    tolerance: Float[Tensor, " K"],
    max_steps: int,
) -> tuple[Float[Tensor, "K P"], int]:
    """From x = 0 until the recurrence's residuals are at most `tolerance`; the steps it took."""
    x, left = torch.zeros_like(rhs), rhs.clone()
    direction = precondition(left).clone()
    slope = _dot(left, direction)
    rows = _open(left, tolerance)
    steps = 0
    while len(rows) and steps < max_steps:
        p = direction[rows]
        product = operator(p) + shift * p
        bend = _checked(_dot(p, product), p, product)
        length = slope[rows] / bend
        # A row without curvature left has met rounding: what it has is all there is.
        length = length.where(bend > 0, 0.0)[:, None].to(rhs)
        x[rows] += length * p
        left[rows] -= length * product
        rows = rows[(bend > 0) & (left[rows].double().norm(dim=1) > tolerance[rows])]
        new = precondition(left[rows])
        before, slope[rows] = slope[rows], _dot(left[rows], new)
        direction[rows] = new + (slope[rows] / before)[:, None].to(rhs) * direction[rows]
        steps += 1
    return x, steps


def _open(left: Float[Tensor, "K P"], tolerance: Float[Tensor, " K"]) -> Tensor:
    return (left.double().norm(dim=1) > tolerance).nonzero()[:, 0]


def _checked(
    bend: Float[Tensor, " K"], p: Float[Tensor, "K P"], product: Float[Tensor, "K P"]
) -> Float[Tensor, " K"]:
    """pᵀ(A + shift)p, unless it is negative beyond rounding."""
    eps = torch.finfo(p.dtype).eps ** 0.5
    rounding = eps * p.double().norm(dim=1) * product.double().norm(dim=1)
    if bool((bend >= -rounding).all()):
        return bend
    if not bool(bend.isfinite().all()):
        raise FloatingPointError("cg: a product with the operator is not finite")
    raise InputError(
        "cg",
        "a direction of negative curvature",
        "a positive definite operator",
        "raise the shift, or use a curvature without negative eigenvalues such as the GGN",
    )


def _dot(left: Float[Tensor, "K P"], right: Float[Tensor, "K P"]) -> Float[Tensor, " K"]:
    return torch.linalg.vecdot(left.double(), right.double())


def _identity(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
    return v
