"""(1/N) Σ_i J_iᵀ W_i J_i as an operator: the shape of the GGN, the Fisher and the covariance.

J_i [C, P] is the Jacobian of example i's outputs; W_i acts in the space of the outputs. A product
costs one forward-mode and one reverse-mode pass over the data, for a block of vectors at once.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.curvature.chunks import block_width, in_chunks
from gentheory.curvature.linearized import MAX_MEMORY, Linearized
from gentheory.curvature.tracing import Primals
from gentheory.data.batches import Batch
from gentheory.linalg import LinearOperator
from gentheory.middles import Middle
from gentheory.risk import EmpiricalRisk

Middles = Callable[[], Iterator[tuple[Batch, Float[Tensor, "B C C"]]]]
"""Passes over the data with their W_i."""


def sandwich(
    risk: EmpiricalRisk, middles: Middles, ridge: float, *, max_memory: int = MAX_MEMORY
) -> LinearOperator:
    """The operator with these W_i, plus `ridge` times the identity."""

    def product(theta: Tensor, inputs: Tensor, middle: Tensor, v: Tensor) -> Tensor:
        def forward(at: Tensor) -> Tensor:
            return risk.outputs(at, inputs)

        pushed = torch.func.jvp(forward, (theta,), (v,))[1]
        cotangents = torch.einsum("bcd,bd->bc", middle, pushed)
        return torch.func.vjp(forward, theta)[1](cotangents)[0]

    def chunks() -> Iterator[Primals]:
        pairs = ((inputs, middle) for (inputs, _), middle in middles())
        for inputs, weights in in_chunks(risk, pairs):
            yield risk.theta, inputs, weights

    summed = Linearized(product, chunks, lambda: block_width(risk), max_memory)

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        return (summed(v) / risk.num_examples).to(v.dtype) + ridge * v

    return LinearOperator(block, risk.num_params, risk.dtype, risk.device)


def weighed(risk: EmpiricalRisk, middle: Middle) -> Middles:
    """Passes over the data with the W_i computed from the outputs."""

    def one_pass() -> Iterator[tuple[Batch, Float[Tensor, "B C C"]]]:
        for batch in risk.batches():
            with torch.no_grad():
                outputs = risk.outputs(risk.theta, batch[0])
            yield batch, middle(outputs, batch).to(outputs.dtype)

    return one_pass
