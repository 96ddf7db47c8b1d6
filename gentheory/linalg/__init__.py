"""Matrix-free linear algebra: knows products with vectors, nothing of networks."""

from gentheory.linalg.cg import Solution, cg
from gentheory.linalg.lanczos import Eigenpairs, extremes, largest, smallest
from gentheory.linalg.nystrom import Nystrom, nystrom
from gentheory.linalg.operator import LinearOperator
from gentheory.linalg.probes import gaussian, rademacher
from gentheory.linalg.quadrature import Quadrature, dense_quadrature, lanczos_quadrature
from gentheory.linalg.trace import hutch_pp, hutchinson, xtrace

__all__ = [
    "Eigenpairs",
    "LinearOperator",
    "Nystrom",
    "Quadrature",
    "Solution",
    "cg",
    "dense_quadrature",
    "extremes",
    "gaussian",
    "hutch_pp",
    "hutchinson",
    "lanczos_quadrature",
    "largest",
    "nystrom",
    "rademacher",
    "smallest",
    "xtrace",
]
