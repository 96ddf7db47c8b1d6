"""The empirical neural tangent kernel J Jᵀ as an operator, without the matrix (Jacot et al. 2018).

A product costs one reverse-mode and one forward-mode pass over the data for a block of vectors.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.curvature.chunks import block_width, in_chunks
from gentheory.linalg import LinearOperator
from gentheory.risk import EmpiricalRisk


def tangent_kernel(risk: EmpiricalRisk) -> LinearOperator:
    """v ↦ J (Jᵀ v) for vectors of N · C numbers, output c of example i at place i C + c.

    Of all outputs with all others, not divided by N or C, without weight decay.
    """
    size = risk.num_examples * risk.num_outputs

    def block(v: Float[Tensor, "K size"]) -> Float[Tensor, "K size"]:
        parts = [_push(risk, _pull(risk, part)) for part in v.split(block_width(risk))]
        return torch.cat(parts).to(v.dtype)

    return LinearOperator(block, size, risk.dtype, risk.device)


def _pull(risk: EmpiricalRisk, v: Float[Tensor, "K size"]) -> Float[Tensor, "K P"]:
    """Jᵀ v, summed in float64."""
    rows = v.unflatten(1, (-1, risk.num_outputs))
    total = v.new_zeros(len(v), risk.num_params, dtype=torch.float64)
    start = 0
    for inputs, _ in in_chunks(risk, risk.batches()):
        cotangents = rows[:, start : start + len(inputs)]
        pull = torch.func.vjp(lambda theta, x=inputs: risk.outputs(theta, x), risk.theta)[1]
        total += torch.func.vmap(pull)(cotangents)[0]
        start += len(inputs)
    return total.to(risk.dtype)


def _push(risk: EmpiricalRisk, tangents: Float[Tensor, "K P"]) -> Float[Tensor, "K size"]:
    parts: list[Tensor] = []
    for inputs, _ in in_chunks(risk, risk.batches()):

        def pushed(tangent: Tensor, x: Tensor = inputs) -> Tensor:
            return torch.func.jvp(lambda at: risk.outputs(at, x), (risk.theta,), (tangent,))[1]

        parts.append(torch.func.vmap(pushed)(tangents))
    return torch.cat(parts, dim=1).flatten(1)
