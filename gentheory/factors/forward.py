"""Derivatives of the outputs, and of each example's loss, along one direction: forward mode."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.data.batches import Batch
from gentheory.risk import EmpiricalRisk


def pushed(
    risk: EmpiricalRisk, vector: Float[Tensor, " P"]
) -> Iterator[tuple[Float[Tensor, "B C"], Float[Tensor, "B C"], Batch]]:
    """Outputs f_i and J_i vector, the latter in float64, with each batch: one pass."""
    for batch in risk.batches():
        found = torch.func.jvp(
            lambda theta, x=batch[0]: risk.outputs(theta, x),
            (risk.theta,),
            (vector.to(risk.theta),),
        )
        yield found[0].detach(), found[1].detach().double(), batch


def slopes(risk: EmpiricalRisk, vector: Float[Tensor, " P"]) -> Float[Tensor, " N"]:
    """⟨∇loss_i, vector⟩ in float64, without weight decay."""
    parts = [
        (risk.loss.gradient(outputs, targets).double() * rows).sum(1)
        for outputs, rows, (_, targets) in pushed(risk, vector)
    ]
    return torch.cat(parts)
