"""(1/N) Σ_i J_iᵀ W_i J_i as an operator: the shape of the GGN, the Fisher and the covariance.

J_i [C, P] is the Jacobian of example i's outputs; W_i acts in the space of the outputs. A product
costs one forward-mode and one reverse-mode pass over the data, for a block of vectors at once.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.data.batches import Batch
from gentheory.linalg import LinearOperator
from gentheory.risk import EmpiricalRisk

Middle = Callable[[Float[Tensor, "B C"], Batch], Float[Tensor, "B C C"]]
"""(outputs, batch) -> W, one matrix per example."""

MAX_BLOCK = 32
"""Vectors at once: beyond a few dozen a block only costs memory."""


def sandwich(
    risk: EmpiricalRisk,
    middles: Callable[[], Iterator[tuple[Batch, Float[Tensor, "B C C"]]]],
    ridge: float,
) -> LinearOperator:
    """The operator with these W_i, plus `ridge` times the identity."""

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        total = torch.zeros_like(v, dtype=torch.float64)
        for batch, middle in middles():
            for part, rows in _chunks(v, total):
                rows += _product(risk, batch, middle, part)
        return (total / risk.num_examples).to(v.dtype) + ridge * v

    return LinearOperator(block, risk.num_params, risk.dtype, risk.device)


def weighed(
    risk: EmpiricalRisk, middle: Middle
) -> Callable[[], Iterator[tuple[Batch, Float[Tensor, "B C C"]]]]:
    """Passes over the data with the W_i computed from the outputs."""

    def one_pass() -> Iterator[tuple[Batch, Float[Tensor, "B C C"]]]:
        for batch in risk.batches():
            with torch.no_grad():
                outputs = risk.outputs(risk.theta, batch[0])
            yield batch, middle(outputs, batch).to(outputs.dtype)

    return one_pass


def _chunks(v: Tensor, total: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(v.split(MAX_BLOCK), total.split(MAX_BLOCK), strict=True)


def _product(
    risk: EmpiricalRisk, batch: Batch, middle: Tensor, v: Float[Tensor, "K P"]
) -> Float[Tensor, "K P"]:
    def forward(theta: Tensor) -> Tensor:
        return risk.outputs(theta, batch[0])

    def push(tangent: Tensor) -> Tensor:
        return torch.func.jvp(forward, (risk.theta,), (tangent,))[1]

    pushed = torch.func.vmap(push)(v)
    cotangents = torch.einsum("bcd,kbd->kbc", middle, pushed)
    pull = torch.func.vjp(forward, risk.theta)[1]
    return torch.func.vmap(lambda u: pull(u)[0])(cotangents)
