"""Stochastic traces."""

from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.linalg.operator import LinearOperator
from gentheory.linalg.probes import rademacher


def hutchinson(
    operator: LinearOperator, *, num_probes: int, generator: Generator
) -> Float[Tensor, " K"]:
    """K independent unbiased samples zᵀAz of tr A, z of Rademacher entries (Hutchinson 1989).

    Their variance is 2 Σ_{i≠j} A_ij²: a diagonal operator has none.
    """
    z = rademacher(num_probes, operator, generator)
    return (z.double() * operator(z).double()).sum(-1)
