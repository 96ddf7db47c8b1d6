"""The generalized Gauss-Newton matrix, (1/N) Σ J_iᵀ Λ_i J_i  (Schraudolph 2002)."""

from gentheory.curvature.linearized import MAX_MEMORY
from gentheory.curvature.sandwich import sandwich, weighed
from gentheory.linalg import LinearOperator
from gentheory.risk import EmpiricalRisk


def ggn(risk: EmpiricalRisk, *, max_memory: int = MAX_MEMORY) -> LinearOperator:
    """Λ_i: Hessian of example i's loss in its outputs. Includes the risk's weight decay.

    Positive semidefinite for a loss that is convex in the outputs. Equals the Hessian where the
    outputs are linear in the parameters, and the Fisher for `cross_entropy` and `mse`.
    `max_memory` bounds the bytes kept from one product to the next, which makes them faster.
    """
    middle = weighed(risk, lambda outputs, batch: risk.loss.hessian(outputs, batch[1]))
    return sandwich(risk, middle, risk.weight_decay, max_memory=max_memory)
