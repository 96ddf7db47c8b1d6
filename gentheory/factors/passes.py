"""Captures of all the data, batch by batch."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.data.batches import Batch
from gentheory.factors.capture import Capture, activations, capture, explain
from gentheory.middles import Middle
from gentheory.risk import EmpiricalRisk

_NUMBERS = 2**22
"""Gradients of activations at once: those of more leave the caches."""

_NOISE = 1e-14
"""Eigenvalues of W_i below this share of the largest are rounding."""

_KEPT = 2**23
"""Numbers in the captures of all examples up to which they are kept with the risk."""

_ALL = slice(0, None)


def captures(
    risk: EmpiricalRisk,
    cotangents: Callable[[Float[Tensor, "B C"], Batch], Float[Tensor, "K B C"]],
    *,
    several: bool = True,
    span: slice = _ALL,
) -> Iterator[tuple[Batch, Capture]]:
    """Per chunk of examples the batch and the capture of what (outputs, batch) is mapped to.

    `several`: there are about as many cotangents as outputs, rather than one. `span`: of the
    examples from its start to before its stop alone.
    """
    kept = kept_captures(risk) if span == _ALL else None
    if kept is None:
        yield from _streamed(risk, cotangents, several, span)
        return
    for batch, captured in kept:
        rows = cotangents(captured.outputs, batch)
        yield batch, captured.combined(rows)


def kept_captures(risk: EmpiricalRisk) -> list[tuple[Batch, Capture]] | None:
    """Of all examples for the unit vectors of the outputs' space; None where they are too many.

    All other captures are sums of these: a small net's backward passes are made once.
    """

    def compute() -> list[tuple[Batch, Capture]] | None:
        each, count = _activations(risk), risk.num_examples
        if each * risk.num_outputs * count > _KEPT:
            return None
        _, one = next(_streamed(risk, _units, True, slice(0, 1)))
        return None if one.numbers * count > _KEPT else list(_streamed(risk, _units, True, _ALL))

    return risk.once("kept captures", compute)


def _streamed(
    risk: EmpiricalRisk,
    cotangents: Callable[[Float[Tensor, "B C"], Batch], Float[Tensor, "K B C"]],
    several: bool,
    span: slice,
) -> Iterator[tuple[Batch, Capture]]:
    first = next(risk.batches())[0]
    explained = risk.once("explained parameters", lambda: explain(risk, first))
    size = max(1, _NUMBERS // (_activations(risk) * (risk.num_outputs if several else 1)))
    for whole in _within(risk, span):
        for batch in zip(*(tensor.split(size) for tensor in whole), strict=True):
            rows = partial(_of_batch, cotangents, batch)
            yield batch, capture(risk, batch[0], rows, explained=explained)


def _activations(risk: EmpiricalRisk) -> int:
    first = next(risk.batches())[0]
    return max(1, risk.once("activations", lambda: activations(risk, first)))


def _within(risk: EmpiricalRisk, span: slice) -> Iterator[Batch]:
    seen = 0
    for inputs, targets in risk.batches():
        stop = len(inputs) if span.stop is None else span.stop - seen
        if stop <= 0:
            return
        own = slice(max(0, span.start - seen), stop)
        seen += len(inputs)
        if own.start < len(inputs):
            yield inputs[own], targets[own]


def _of_batch(cotangents: Callable[..., Tensor], batch: Batch, outputs: Tensor) -> Tensor:
    return cotangents(outputs, batch)


def output_captures(risk: EmpiricalRisk, span: slice = _ALL) -> Iterator[tuple[Batch, Capture]]:
    """For the unit vectors of the outputs' space (K = C), and the examples in `span`."""
    kept = kept_captures(risk) if span == _ALL else None
    yield from _streamed(risk, _units, True, span) if kept is None else kept


def _units(outputs: Float[Tensor, "B C"], _: Batch) -> Float[Tensor, "C B C"]:
    eye = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
    return eye[:, None].expand(-1, len(outputs), -1)


def residual_captures(risk: EmpiricalRisk) -> Iterator[tuple[Batch, Capture]]:
    """For each example's own residual (K = 1): the gradients of the losses."""

    def residuals(outputs: Float[Tensor, "B C"], batch: Batch) -> Float[Tensor, "1 B C"]:
        return risk.loss.gradient(outputs, batch[1])[None]

    return captures(risk, residuals, several=False)


def moment_captures(
    risk: EmpiricalRisk, middle: Middle
) -> Iterator[tuple[Float[Tensor, "K B"], Capture]]:
    """For the roots of W_i and, as the last one, the residual; with the signs of W_i's eigenvalues.

    W_i = Σ_k sign_ki q_ki q_kiᵀ, the sign of the residual being 1.
    """
    signs: list[Tensor] = []

    def cotangents(outputs: Tensor, batch: Batch) -> Tensor:
        values, vectors = torch.linalg.eigh(middle(outputs, batch).double())
        kept = values.abs().amax(0) > _NOISE * values.abs().max()  # softmax has one root less
        values, vectors = values[:, kept], vectors[:, :, kept]
        signs.append(torch.cat([values.sign(), torch.ones_like(values[:, :1])], 1).T)
        rows = (vectors * values.abs().sqrt()[:, None]).permute(2, 0, 1)
        residuals = risk.loss.gradient(outputs, batch[1]).double()
        return torch.cat([rows, residuals[None]])

    for _, captured in captures(risk, cotangents):
        yield signs.pop(), captured
