"""The Hessian of the empirical risk."""

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.curvature.sandwich import MAX_BLOCK
from gentheory.data.batches import Batch
from gentheory.linalg import LinearOperator
from gentheory.risk import EmpiricalRisk


def hessian(risk: EmpiricalRisk) -> LinearOperator:
    """∇²L(θ), weight decay included: forward-over-reverse products (Pearlmutter 1994), exact.

    At kinks of piecewise linear nets it is the Hessian of the linear piece that autograd takes.
    """

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        total = torch.zeros_like(v, dtype=torch.float64)
        for batch in risk.batches():
            for part, rows in zip(v.split(MAX_BLOCK), total.split(MAX_BLOCK), strict=True):
                rows += _product(risk, batch, part)
        return (total / risk.num_examples).to(v.dtype) + risk.weight_decay * v

    return LinearOperator(block, risk.num_params, risk.dtype, risk.device)


def _product(risk: EmpiricalRisk, batch: Batch, v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
    gradient = torch.func.grad(lambda theta: risk.loss_sum(theta, batch))

    def push(tangent: Tensor) -> Tensor:
        return torch.func.jvp(gradient, (risk.theta,), (tangent,))[1]

    return torch.func.vmap(push)(v)
