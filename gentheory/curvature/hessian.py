"""The Hessian of the empirical risk."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.curvature.chunks import block_width, in_chunks
from gentheory.curvature.linearized import MAX_MEMORY, Linearized
from gentheory.curvature.tracing import Primals
from gentheory.linalg import LinearOperator
from gentheory.risk import EmpiricalRisk


def hessian(risk: EmpiricalRisk, *, max_memory: int = MAX_MEMORY) -> LinearOperator:
    """∇²L(θ), weight decay included: forward-over-reverse products (Pearlmutter 1994), exact.

    At kinks of piecewise linear nets it is the Hessian of the linear piece that autograd takes.
    `max_memory` bounds the bytes kept from one product to the next, which makes them faster.
    """

    def product(theta: Tensor, inputs: Tensor, targets: Tensor, v: Tensor) -> Tensor:
        gradient = torch.func.grad(lambda at: risk.loss_sum(at, (inputs, targets)))
        return torch.func.jvp(gradient, (theta,), (v,))[1]

    def chunks() -> Iterator[Primals]:
        for inputs, targets in in_chunks(risk, risk.batches()):
            yield risk.theta, inputs, targets

    summed = Linearized(product, chunks, lambda: block_width(risk), max_memory)

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        return (summed(v) / risk.num_examples).to(v.dtype) + risk.weight_decay * v

    return LinearOperator(block, risk.num_params, risk.dtype, risk.device)
