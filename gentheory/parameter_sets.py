"""A risk at many parameter vectors at once: perturbed, drawn, or along a path."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from gentheory.risk import EmpiricalRisk

_NUMBERS = 2**22
"""Numbers at once in the parameters, and in the inputs, of a chunk: memory stays flat in K."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_GROUPED = 2**13
"""Numbers in the inputs beyond which many kernels at once, which are one grouped convolution, take
a CPU longer than one after the other."""


def outputs_at(
    risk: EmpiricalRisk, thetas: Float[Tensor, "K P"]
) -> Iterator[tuple[slice, Float[Tensor, "k B C"], Tensor]]:
    """Outputs of every vector on every batch, in chunks of bounded memory; nothing is recorded.

    Yields (which of the K vectors, their outputs, the targets [B, ...]); all batches for one
    chunk of vectors, in the risk's order, then the next chunk. A model that cannot be run as a
    stack, or is slower so, is run a vector at a time.
    """
    for chosen, x, y in _chunks(risk, thetas):
        with torch.no_grad():
            outputs = _stacked(risk, thetas[chosen], x)
        yield chosen, outputs, y


def losses_at(risk: EmpiricalRisk, thetas: Float[Tensor, "K P"]) -> Float[Tensor, "K N"]:
    """Each example's loss at each of the vectors, in float64, without weight decay."""
    rows: dict[int, list[Tensor]] = {}
    for chosen, outputs, targets in outputs_at(risk, thetas):
        values = risk.loss.values(outputs.flatten(0, 1), _repeated(targets, len(outputs)))
        rows.setdefault(chosen.start, []).append(values.unflatten(0, outputs.shape[:2]).double())
    return torch.cat([torch.cat(parts, dim=1) for parts in rows.values()])


def pairs(
    risk: EmpiricalRisk, sigma: float, count: int, generator: Generator
) -> Iterator[Float[Tensor, "k 2 P"]]:
    """θ + σz and θ − σz for `count` standard normal z, in blocks of bounded memory."""

    def normal() -> Float[Tensor, " P"]:
        return torch.randn(
            risk.num_params, generator=generator, device=generator.device, dtype=torch.float64
        )

    size = max(1, _NUMBERS // (2 * risk.num_params))
    for start in range(0, count, size):
        z = torch.stack([normal() for _ in range(min(size, count - start))])
        yield risk.theta + (sigma * torch.stack([z, -z], dim=1)).to(risk.theta)


def gradients_at(
    risk: EmpiricalRisk, thetas: Float[Tensor, "K P"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K P"]]:
    """Mean loss and its gradient at each of the vectors, in float64, without weight decay."""
    values = thetas.new_zeros(len(thetas), dtype=torch.float64)
    gradients = torch.zeros_like(thetas, dtype=torch.float64)
    for chosen, x, y in _chunks(risk, thetas):
        outputs, pull = torch.func.vjp(lambda at, x=x: _stacked(risk, at, x), thetas[chosen])[:2]
        flat, targets = outputs.detach().flatten(0, 1), _repeated(y, len(outputs))
        losses = risk.loss.values(flat, targets).double()
        values[chosen] += losses.unflatten(0, outputs.shape[:2]).sum(1)
        residuals = risk.loss.gradient(flat, targets).to(outputs)
        gradients[chosen] += pull(residuals.view_as(outputs))[0]
    return values / risk.num_examples, gradients / risk.num_examples


def _chunks(
    risk: EmpiricalRisk, thetas: Float[Tensor, "K P"]
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Some of the vectors and some of the examples at once: all examples, then the next vectors."""
    size = max(1, _NUMBERS // thetas.shape[1])
    for start in range(0, len(thetas), size):
        chosen = slice(start, min(start + size, len(thetas)))
        for inputs, targets in risk.batches():
            rows = max(1, _NUMBERS // (inputs[0].numel() * (chosen.stop - start)))
            for x, y in zip(inputs.split(rows), targets.split(rows), strict=True):
                yield chosen, x, y


def _stacked(
    risk: EmpiricalRisk, thetas: Float[Tensor, "k P"], inputs: Tensor
) -> Float[Tensor, "k B C"]:
    if len(thetas) > 1 and runs_stacked(risk, inputs):
        return torch.func.vmap(risk.outputs, in_dims=(0, None))(thetas, inputs)
    return torch.stack([risk.outputs(theta, inputs) for theta in thetas])


def runs_stacked(risk: EmpiricalRisk, inputs: Tensor) -> bool:
    """Whether the model's operations have batched forms, and gain by them on so many inputs."""

    def tried() -> bool:
        try:
            with torch.no_grad():
                torch.func.vmap(risk.outputs, in_dims=(0, None))(risk.theta[None], inputs[:1])
        except RuntimeError:
            return False
        return True

    filters = any(isinstance(part, _CONVOLUTIONS) for part in risk.module.modules())
    slower = filters and risk.device.type == "cpu" and inputs.numel() > _GROUPED
    return not slower and risk.once("runs as a stack", tried)


def _repeated(targets: Tensor, count: int) -> Tensor:
    """The targets of a batch, once for each of the vectors: [k · B, ...]."""
    return targets.expand(count, *targets.shape).flatten(0, 1)
