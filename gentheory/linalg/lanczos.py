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
    random direction. One start sees one vector of each eigenspace: for k > 1 Lanczos runs again
    with the found vectors deflated (Hotelling 1933) until the best of the rest is no larger than
    the k-th, so that a multiple eigenvalue comes as often as it is one, up to rtol.

    Each run takes at most `max_steps` products, and memory for as many vectors of size P. Fewer
    than k pairs where the operator's size or `max_steps` is smaller.
    """
    k = min(k, max_steps, operator.size)
    found = _lanczos(operator, k, rtol, max_steps, generator)
    while 1 < k < operator.size and found.settled:
        rest = _lanczos(_deflated(operator, found), 1, rtol, max_steps, generator)
        found, worst = _merged(found, rest), found.values[-1]
        if bool(rest.values[0] <= worst + rtol * found.scale):
            break
    vectors = found.vectors / found.vectors.norm(dim=1, keepdim=True)
    products = operator(vectors)
    residuals = (products - found.values.to(vectors)[:, None] * vectors).double().norm(dim=1)
    converged = bool((residuals <= rtol * found.scale).all())
    return Eigenpairs(found.values, vectors, residuals, found.steps + k, converged)


@dataclass(frozen=True)
class _Ritz:
    """Ritz pairs, largest first."""

    values: Float[Tensor, " k"]
    vectors: Float[Tensor, "k P"]
    scale: Float[Tensor, ""]  # the largest Ritz value in size
    steps: int
    settled: bool  # stopped because the error bounds were met


def _deflated(operator: LinearOperator, found: _Ritz) -> LinearOperator:
    """The found eigenvalues moved to -scale, where they are in nobody's way."""
    x, shift = found.vectors, (found.values + found.scale).to(found.vectors)

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        return operator(v) - ((v @ x.T) * shift) @ x

    return LinearOperator(block, operator.size, operator.dtype, operator.device)


def _merged(found: _Ritz, rest: _Ritz) -> _Ritz:
    """The largest pairs of both, as many as in `found`."""
    values, order = torch.cat([found.values, rest.values]).sort(descending=True, stable=True)
    kept = order[: len(found.values)]
    vectors = torch.cat([found.vectors, rest.vectors])[kept]
    steps = found.steps + rest.steps
    return _Ritz(values[: len(kept)], vectors, found.scale, steps, rest.settled)


def _lanczos(
    operator: LinearOperator, k: int, rtol: float, max_steps: int, generator: Generator
) -> _Ritz:
    """One run from one random start."""
    max_steps = min(max_steps, operator.size)
    basis = torch.zeros(max_steps + 1, operator.size, dtype=operator.dtype, device=operator.device)
    tridiagonal = torch.zeros_like(basis[:, :1], dtype=torch.float64).expand(-1, max_steps + 1)
    tridiagonal = tridiagonal.clone()
    start = gaussian(1, operator, generator)[0]
    basis[0] = start / start.norm()
    steps, settled = 0, False
    for steps in range(1, max_steps + 1):
        _extend(operator, basis, tridiagonal, steps, generator)
        # An eigendecomposition at every step would cost more than the products on small nets.
        if steps >= k and (steps % 5 == 0 or steps == max_steps):
            ritz, weights = torch.linalg.eigh(tridiagonal[:steps, :steps])
            bounds = (tridiagonal[steps - 1, steps] * weights[-1]).abs()[-k:]
            settled = bool((bounds <= 0.5 * rtol * ritz.abs().max()).all())
            if settled:
                break
    ritz, weights = torch.linalg.eigh(tridiagonal[:steps, :steps])
    vectors = weights[:, -k:].T.flip(0).to(basis) @ basis[:steps]
    return _Ritz(ritz[-k:].flip(0), vectors, ritz.abs().max(), steps, settled)


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
