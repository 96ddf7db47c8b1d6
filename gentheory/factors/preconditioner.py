"""Approximate inverses of the damped curvature, for conjugate gradients."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.factors.kronecker import eigenbasis
from gentheory.linalg import LinearOperator, nystrom
from gentheory.risk import EmpiricalRisk

Preconditioner: TypeAlias = Literal["kfac", "nystrom", "none"]

_SKETCH = 100
"""Rank of the Nyström preconditioner."""


def preconditioner_of(
    risk: EmpiricalRisk,
    operator: LinearOperator,
    kind: Preconditioner,
    ridge: float,
    generator: Generator,
) -> Callable[[Float[Tensor, "K P"]], Float[Tensor, "K P"]] | None:
    """v ↦ about (H + ridge)⁻¹ v; H includes the weight decay, "kfac" is that of the GGN."""
    if kind == "none":
        return None
    if kind == "nystrom":
        sketch = nystrom(operator, min(_SKETCH, risk.num_params), generator=generator)
        return lambda v: sketch.inverse(v, ridge)
    basis = eigenbasis(risk, "ggn", generator)
    return lambda v: basis.inverse(v, ridge + risk.weight_decay)
