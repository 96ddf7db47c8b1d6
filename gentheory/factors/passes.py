"""Captures of all the data, batch by batch."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.data.batches import Batch
from gentheory.factors.capture import Capture, capture, explain
from gentheory.middles import Middle
from gentheory.risk import EmpiricalRisk

Cotangents = Callable[[Float[Tensor, "B C"], Batch], Float[Tensor, "K B C"]]
"""(outputs, batch) -> what is pulled back through the model."""

CHUNK = 256
"""Examples at once."""


def captures(
    risk: EmpiricalRisk, cotangents: Cotangents
) -> Iterator[tuple[Batch, Float[Tensor, "B C"], Capture]]:
    """Per chunk of examples the batch, its outputs, and the capture of these cotangents."""
    explained: frozenset[str] | None = None
    for batch in risk.batches():
        for inputs, targets in zip(*(tensor.split(CHUNK) for tensor in batch), strict=True):
            if explained is None:
                explained = explain(risk, inputs)
            with torch.no_grad():
                outputs = risk.outputs(risk.theta, inputs)
            rows = cotangents(outputs, (inputs, targets)).to(outputs)
            yield (inputs, targets), outputs, capture(risk, inputs, rows, explained=explained)


def output_captures(
    risk: EmpiricalRisk,
) -> Iterator[tuple[Batch, Float[Tensor, "B C"], Capture]]:
    """For the unit vectors of the outputs' space (K = C)."""
    return captures(
        risk,
        lambda outputs, _: (
            torch.eye(outputs.shape[1]).to(outputs)[:, None].expand(-1, len(outputs), -1)
        ),
    )


def residual_captures(
    risk: EmpiricalRisk,
) -> Iterator[tuple[Batch, Float[Tensor, "B C"], Capture]]:
    """For each example's own residual (K = 1): the gradients of the losses."""
    return captures(risk, lambda outputs, batch: risk.loss.gradient(outputs, batch[1])[None])


def moment_captures(
    risk: EmpiricalRisk, middle: Middle
) -> Iterator[tuple[Float[Tensor, "K B"], Capture]]:
    """For the roots of W_i and, as the last one, the residual; with the signs of W_i's eigenvalues.

    W_i = Σ_k sign_ki q_ki q_kiᵀ, the sign of the residual being 1.
    """
    signs: list[Tensor] = []

    def cotangents(outputs: Tensor, batch: Batch) -> Tensor:
        values, vectors = torch.linalg.eigh(middle(outputs, batch).double())
        signs.append(torch.cat([values.sign(), torch.ones_like(values[:, :1])], 1).T)
        rows = (vectors * values.abs().sqrt()[:, None]).permute(2, 0, 1)
        residuals = risk.loss.gradient(outputs, batch[1]).double()
        return torch.cat([rows, residuals[None]])

    for _, _, captured in captures(risk, cotangents):
        yield signs.pop(), captured
