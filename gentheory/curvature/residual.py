"""What the Hessian has beside the GGN: (1/N) Σ_i Σ_c r_ic ∇²f_ic."""

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.curvature.sandwich import MAX_BLOCK
from gentheory.data.batches import Batch
from gentheory.linalg import LinearOperator
from gentheory.risk import EmpiricalRisk


def residual_curvature(risk: EmpiricalRisk) -> LinearOperator:
    """Hessian minus GGN: the outputs' second derivatives weighed by the residuals r_i.

    A product costs what a Hessian's costs. It vanishes where the training data are interpolated;
    for piecewise linear nets each layer's diagonal block is zero.
    """

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        total = torch.zeros_like(v, dtype=torch.float64)
        for batch in risk.batches():
            with torch.no_grad():
                outputs = risk.outputs(risk.theta, batch[0])
            residuals = risk.loss.gradient(outputs, batch[1]).to(outputs)
            for part, rows in zip(v.split(MAX_BLOCK), total.split(MAX_BLOCK), strict=True):
                rows += _product(risk, batch, residuals, part)
        return (total / risk.num_examples).to(v.dtype)

    return LinearOperator(block, risk.num_params, risk.dtype, risk.device)


def _product(
    risk: EmpiricalRisk, batch: Batch, residuals: Float[Tensor, "B C"], v: Float[Tensor, "K P"]
) -> Float[Tensor, "K P"]:
    gradient = torch.func.grad(lambda theta: (risk.outputs(theta, batch[0]) * residuals).sum())

    def push(tangent: Tensor) -> Tensor:
        return torch.func.jvp(gradient, (risk.theta,), (tangent,))[1]

    return torch.func.vmap(push)(v)
