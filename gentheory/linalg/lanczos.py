"""Extreme eigenpairs by Lanczos with full reorthogonalization."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.linalg.operator import LinearOperator
from gentheory.linalg.probes import gaussian


@dataclass(frozen=True)
class Eigenpairs:
    """The k algebraically largest eigenpairs, largest first."""

    values: Float[Tensor, " k"]  # float64
    vectors: Float[Tensor, "k P"]
    residuals: Float[Tensor, " k"]  # |A x - value x|, recomputed from the vectors; float64
    num_products: int
    converged: bool  # every residual is at most rtol · |largest eigenvalue in size|


def largest(
    operator: LinearOperator,
    k: int,
    *,
    rtol: float = 1e-4,
    max_steps: int = 300,
    generator: Generator,
) -> Eigenpairs:
    """Lanczos from a random start until k Ritz pairs have residuals below rtol · |λ|max.

    The basis is reorthogonalized twice at each step, so no eigenvalue comes as a ghost copy; the
    tridiagonal matrix is float64. Where the basis spans an invariant subspace, it goes on in a new
    random direction. A start vector sees a multiple eigenvalue once until then. Memory: max_steps + k vectors of size P.
    """
    max_steps = min(max_steps, operator.size)
    k = min(k, max_steps)
    basis = torch.zeros(max_steps + 1, operator.size, dtype=operator.dtype, device=operator.device)
    tridiagonal = torch.zeros_like(basis[:, :1], dtype=torch.float64).expand(-1, max_steps + 1)
    tridiagonal = tridiagonal.clone()
    start = gaussian(1, operator, generator)[0]
    basis[0] = start / start.norm()
    steps = 0
    for steps in range(1, max_steps + 1):
        _extend(operator, basis, tridiagonal, steps, generator)
        # An eigendecomposition at every step would cost more than the products on small nets.
        if steps >= k and (steps % 5 == 0 or steps == max_steps):
            ritz, weights = torch.linalg.eigh(tridiagonal[:steps, :steps])
            bounds = (tridiagonal[steps - 1, steps] * weights[-1]).abs()[-k:]
            if bool((bounds <= 0.5 * rtol * ritz.abs().max()).all()):
                break
    ritz, weights = torch.linalg.eigh(tridiagonal[:steps, :steps])
    vectors = weights[:, -k:].T.flip(0).to(basis) @ basis[:steps]
    vectors /= vectors.norm(dim=1, keepdim=True)
    values = ritz[-k:].flip(0)
    residuals = (operator(vectors) - values.to(vectors)[:, None] * vectors).double().norm(dim=1)
    converged = bool((residuals <= rtol * ritz.abs().max()).all())
    return Eigenpairs(values, vectors, residuals, steps + k, converged)


def _extend(
    operator: LinearOperator,
    basis: Tensor,
    tridiagonal: Tensor,
    steps: int,
    generator: Generator,
) -> None:
    """Fill column steps - 1 of the tridiagonal matrix, and basis[steps] where there is room."""
    known = basis[:steps]
    w = operator(basis[steps - 1])
    coefficients = known @ w
    w = _orthogonal(w - known.T @ coefficients, known)
    beta = w.double().norm()
    tridiagonal[steps - 1, steps - 1] = coefficients[-1].double()
    scale = tridiagonal[:steps, :steps].abs().max()
    if bool(beta > 10 * torch.finfo(operator.dtype).eps * scale):
        tridiagonal[steps - 1, steps] = tridiagonal[steps, steps - 1] = beta
    elif steps < operator.size:
        # An invariant subspace: what is left is rounding. Go on in a new direction instead.
        w = _orthogonal(_orthogonal(gaussian(1, operator, generator)[0], known), known)
    else:
        return
    basis[steps] = w / w.norm()


def _orthogonal(w: Float[Tensor, " P"], basis: Float[Tensor, "K P"]) -> Float[Tensor, " P"]:
    return w - basis.T @ (basis @ w)
