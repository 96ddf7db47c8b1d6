"""Randomized Nyström approximation of a positive semidefinite operator, and what it preconditions.

(Frangella, Tropp & Udell 2023, Randomized Nyström Preconditioning, algorithms 2.1 and 5.1.)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.errors import InputError
from gentheory.linalg.operator import LinearOperator
from gentheory.linalg.probes import gaussian


@dataclass(frozen=True)
class Nystrom:
    """A ≈ Σ_k values_k vectors_k vectors_kᵀ, from below: A − approximation has no negative part."""

    values: Float[Tensor, " K"]  # largest first, none negative; float64
    vectors: Float[Tensor, "K P"]  # orthonormal rows

    def inverse(self, v: Float[Tensor, "*batch P"], shift: float) -> Float[Tensor, "*batch P"]:
        """(A + shift)⁻¹ v, A taken to be its smallest kept value where the approximation is blind.

        The paper's preconditioner, in the scale of an inverse. `shift` must be positive where the
        smallest kept value is 0.
        """
        floor = self.values[-1] + shift
        weights = (1 / (self.values + shift) - 1 / floor).to(v)
        return v / floor.to(v) + ((v @ self.vectors.T) * weights) @ self.vectors


def nystrom(operator: LinearOperator, rank: int, *, generator: Generator) -> Nystrom:
    """A Ω (Ωᵀ A Ω)⁻¹ (A Ω)ᵀ with an orthonormal Gaussian sketch Ω of `rank` columns.

    One block of `rank` products; takes 4 · rank · P numbers of float64 meanwhile. A is shifted by
    its rounding error for the Cholesky factorization and the values are shifted back. Fewer pairs
    where the operator's size is smaller. Raises `InputError` for a rank below 1 and for an
    operator with negative eigenvalues, `FloatingPointError` for a product that is not finite.
    """
    if rank < 1:
        raise InputError("nystrom.rank", str(rank), "at least 1", "give 1 or more")
    rank = min(rank, operator.size)
    sketch = torch.linalg.qr(gaussian(rank, operator, generator).double().T)[0].T
    sketch = sketch.to(operator.dtype)
    image, sketch = operator(sketch).double(), sketch.double()
    norm = torch.linalg.matrix_norm(image)
    if not bool(norm.isfinite()):
        raise FloatingPointError("nystrom: a product with the operator is not finite")
    rounding = operator.size**0.5 * torch.finfo(operator.dtype).eps * norm
    shift = rounding.clamp(min=torch.finfo(torch.float64).tiny ** 0.5)  # an operator of zero
    image = image + shift * sketch
    core = sketch @ image.T
    factor, info = torch.linalg.cholesky_ex((core + core.T) / 2)
    if bool(info):
        raise InputError(
            "nystrom",
            "an operator with negative eigenvalues",
            "a positive semidefinite one",
            "use a curvature without negative eigenvalues such as the GGN",
        )
    half = torch.linalg.solve_triangular(factor, image, upper=False)
    _, roots, vectors = torch.linalg.svd(half, full_matrices=False)
    return Nystrom((roots.square() - shift).clamp(min=0), vectors.to(operator.dtype))
