"""What the loss makes of each example at the trained parameters, in the space of the outputs."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.risk import EmpiricalRisk


@dataclass(frozen=True)
class Examples:
    """All examples of a risk, in its frozen order and in float64."""

    outputs: Float[Tensor, "N C"]
    targets: Tensor  # [N] or [N, C]
    residuals: Float[Tensor, "N C"]  # r_i, gradient of the loss in the outputs
    middles: Float[Tensor, "N C C"]  # Λ_i, its Hessian

    @classmethod
    def of(cls, risk: EmpiricalRisk) -> "Examples":
        """One forward pass. Takes N (C² + 2 C) numbers."""
        parts: list[tuple[Tensor, ...]] = []
        for inputs, targets in risk.batches():
            with torch.no_grad():
                outputs = risk.outputs(risk.theta, inputs).double()
            wanted = targets.double() if targets.is_floating_point() else targets
            residuals = risk.loss.gradient(outputs, wanted)
            parts.append((outputs, wanted, residuals, risk.loss.hessian(outputs, wanted)))
        return cls(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
