"""Matrix-free linear algebra: knows products with vectors, nothing of networks."""

from gentheory.linalg.cg import Solution, cg
from gentheory.linalg.lanczos import Eigenpairs, extremes, largest, smallest
from gentheory.linalg.nystrom import Nystrom, nystrom
from gentheory.linalg.operator import LinearOperator
from gentheory.linalg.probes import gaussian, rademacher
from gentheory.linalg.trace import hutchinson

__all__ = [
    "Eigenpairs",
    "LinearOperator",
    "Nystrom",
    "Solution",
    "cg",
    "extremes",
    "gaussian",
    "hutchinson",
    "largest",
    "nystrom",
    "rademacher",
    "smallest",
]
