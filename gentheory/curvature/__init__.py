"""Matrix-free curvature of a risk, and its dense form where that fits."""

from torch import Generator

from gentheory.curvature.covariance import gradient_covariance, gradient_draws
from gentheory.curvature.fisher import fisher, sampled_fisher
from gentheory.curvature.ggn import ggn
from gentheory.curvature.hessian import hessian
from gentheory.errors import InputError
from gentheory.linalg import LinearOperator
from gentheory.middles import CURVATURES, Curvature
from gentheory.risk import EmpiricalRisk

__all__ = [
    "fisher",
    "ggn",
    "gradient_covariance",
    "gradient_draws",
    "hessian",
    "operator_of",
    "sampled_fisher",
]


def operator_of(risk: EmpiricalRisk, curvature: Curvature, generator: Generator) -> LinearOperator:
    """The operator of this name; only the sampled Fisher draws from the generator."""
    if curvature == "sampled_fisher":
        return sampled_fisher(risk, generator=generator)
    operators = {"ggn": ggn, "fisher": fisher, "hessian": hessian}
    if curvature not in operators:
        raise InputError("curvature", repr(curvature), f"one of {', '.join(CURVATURES)}", "choose")
    return operators[curvature](risk)
