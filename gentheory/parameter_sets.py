"""A risk at many parameter vectors at once: perturbed, drawn, or along a path."""

import math
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
_IN_CACHE = 2**18
"""Numbers at once in the inputs of convolutions that take turns: what they put out stays cached."""


def outputs_at(
    risk: EmpiricalRisk, thetas: Float[Tensor, "K P"]
) -> Iterator[tuple[slice, Float[Tensor, "k B C"], Tensor]]:
    """Outputs of every vector on every batch, in chunks of bounded memory; nothing is recorded.

    Yields (which of the K vectors, their outputs, the targets [B, ...]); all batches for one
    chunk of vectors, in the risk's order, then the next chunk. A model that cannot be run as a
    stack, or is slower so, is run a vector at a time.
    """
    for chosen in _some(thetas):
        count = chosen.stop - chosen.start
        for inputs, targets in risk.batches():
            together = count > 1 and runs_stacked(risk, inputs)
            rows = _rows(risk, inputs, count, together)
            for x, y in zip(inputs.split(rows), targets.split(rows), strict=True):
                with torch.no_grad():
                    run = _stacked if together else _in_turn
                    outputs = run(risk, thetas[chosen], x)
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


def _some(thetas: Float[Tensor, "K P"]) -> Iterator[slice]:
    """As many of the vectors at once as memory is meant for."""
    size = max(1, _NUMBERS // thetas.shape[1])
    for start in range(0, len(thetas), size):
        yield slice(start, min(start + size, len(thetas)))


def _chunks(
    risk: EmpiricalRisk, thetas: Float[Tensor, "K P"]
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Some of the vectors and some of the examples at once: all examples, then the next vectors."""
    for chosen in _some(thetas):
        for inputs, targets in risk.batches():
            rows = max(1, _NUMBERS // (inputs[0].numel() * (chosen.stop - chosen.start)))
            for x, y in zip(inputs.split(rows), targets.split(rows), strict=True):
                yield chosen, x, y


def _rows(risk: EmpiricalRisk, inputs: Tensor, count: int, together: bool) -> int:
    """Examples at once: what is not recorded needs memory for those alone whose turn it is."""
    cached = not together and _convolves(risk)
    numbers = _IN_CACHE if cached else _NUMBERS // count
    most = max(1, numbers // inputs[0].numel())
    return math.ceil(len(inputs) / math.ceil(len(inputs) / most))  # no small rest, at a whole call


def _stacked(
    risk: EmpiricalRisk, thetas: Float[Tensor, "k P"], inputs: Tensor
) -> Float[Tensor, "k B C"]:
    if len(thetas) > 1 and runs_stacked(risk, inputs):
        return torch.func.vmap(risk.outputs, in_dims=(0, None))(thetas, inputs)
    return _in_turn(risk, thetas, inputs)


def _in_turn(
    risk: EmpiricalRisk, thetas: Float[Tensor, "k P"], inputs: Tensor
) -> Float[Tensor, "k B C"]:
    x = _laid_out(risk, inputs)
    return torch.stack([risk.outputs(theta, x) for theta in thetas])


def _laid_out(risk: EmpiricalRisk, inputs: Tensor) -> Tensor:
    """Images with each pixel's channels side by side in memory, for convolutions on a CPU.

    They take two thirds of the time so. As they are for a model that asks for the other layout,
    as `view` does.
    """

    def tried() -> bool:
        try:
            with torch.no_grad():
                risk.outputs(risk.theta, _channels_last(inputs[:1]))
        except RuntimeError:
            return False
        return True

    apt = inputs.dim() == 4 and inputs.dtype == torch.float32 and _convolves(risk)
    apt = apt and risk.once("takes channels last", tried)
    return _channels_last(inputs) if apt else inputs


def _channels_last(images: Tensor) -> Tensor:
    # Not `contiguous`, which leaves one channel's strides as they are: they mean channels first.
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)


def _convolves(risk: EmpiricalRisk) -> bool:
    """On a CPU, where the layout of the images and the number of kernels at once matter most."""
    parts = risk.module.modules()
    return risk.device.type == "cpu" and any(isinstance(part, _CONVOLUTIONS) for part in parts)


def runs_stacked(risk: EmpiricalRisk, inputs: Tensor) -> bool:
    """Whether the model's operations have batched forms, and gain by them on so many inputs."""

    def tried() -> bool:
        try:
            with torch.no_grad():
                torch.func.vmap(risk.outputs, in_dims=(0, None))(risk.theta[None], inputs[:1])
        except RuntimeError:
            return False
        return True

    slower = _convolves(risk) and inputs.numel() > _GROUPED
    return not slower and risk.once("runs as a stack", tried)


def _repeated(targets: Tensor, count: int) -> Tensor:
    """The targets of a batch, once for each of the vectors: [k · B, ...]."""
    return targets.expand(count, *targets.shape).flatten(0, 1)
