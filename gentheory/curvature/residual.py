"""What the Hessian has beside the GGN: (1/N) Σ_i Σ_c r_ic ∇²f_ic."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.curvature.chunks import block_width, in_chunks
from gentheory.curvature.linearized import MAX_MEMORY, Linearized
from gentheory.curvature.tracing import Primals
from gentheory.data.batches import Batch
from gentheory.linalg import LinearOperator
from gentheory.risk import EmpiricalRisk


def residual_curvature(risk: EmpiricalRisk, *, max_memory: int = MAX_MEMORY) -> LinearOperator:
    """Hessian minus GGN: the outputs' second derivatives weighed by the residuals r_i.

    A product costs what a Hessian's costs. It vanishes where the training data are interpolated;
    for piecewise linear nets each layer's diagonal block is zero.
    """

    def product(theta: Tensor, inputs: Tensor, residuals: Tensor, v: Tensor) -> Tensor:
        gradient = torch.func.grad(lambda at: (risk.outputs(at, inputs) * residuals).sum())
        return torch.func.jvp(gradient, (theta,), (v,))[1]

    def weighed() -> Iterator[Batch]:
        for inputs, targets in risk.batches():
            with torch.no_grad():
                outputs = risk.outputs(risk.theta, inputs)
            yield inputs, risk.loss.gradient(outputs, targets).to(outputs)

    def chunks() -> Iterator[Primals]:
        for inputs, residuals in in_chunks(risk, weighed()):
            yield risk.theta, inputs, residuals

    summed = Linearized(product, chunks, lambda: block_width(risk), max_memory)

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        return (summed(v) / risk.num_examples).to(v.dtype)

    return LinearOperator(block, risk.num_params, risk.dtype, risk.device)
