"""What the loss makes of each example at the trained parameters, in the space of the outputs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.errors import InputError
from gentheory.risk import EmpiricalRisk


@dataclass(frozen=True)
class Examples:
    """All examples of a risk, in its frozen order and in float64."""

    outputs: Float[Tensor, "N C"]
    targets: Tensor  # [N] or [N, C]
    residuals: Float[Tensor, "N C"]  # r_i, gradient of the loss in the outputs
    middles: Float[Tensor, "N C C"]  # Λ_i, its Hessian

    @classmethod
    def of(cls, risk: EmpiricalRisk) -> "Examples":
        """One forward pass. Takes N (C² + 2 C) numbers."""
        parts: list[tuple[Tensor, ...]] = []
        for inputs, targets in risk.batches():
            with torch.no_grad():
                outputs = risk.outputs(risk.theta, inputs).double()
            wanted = targets.double() if targets.is_floating_point() else targets
            residuals = risk.loss.gradient(outputs, wanted)
            parts.append((outputs, wanted, residuals, risk.loss.hessian(outputs, wanted)))
        return cls(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def outputs_of(risk: EmpiricalRisk) -> Float[Tensor, "N C"]:
    """Of all examples at the risk's parameters, in float64; computed once a risk."""

    def compute() -> Tensor:
        with torch.no_grad():
            return torch.cat([risk.outputs(risk.theta, x).double() for x, _ in risk.batches()])

    return risk.once("outputs", compute)


def targets_of(risk: EmpiricalRisk) -> Tensor:
    """Of all examples in the risk's order, [N] or [N, C]."""
    return torch.cat([targets for _, targets in risk.batches()])


def over_examples(function: Callable[..., Tensor], *columns: Tensor) -> Tensor:
    """The function of each example's part of the columns [B, ...], stacked: [B, ...].

    All at once, or one by one where the model looks at values, as with a padding mask.
    """
    try:
        return torch.func.vmap(function)(*columns)
    except RuntimeError as error:
        if "data-dependent" not in str(error):
            raise
        return torch.stack([function(*example) for example in zip(*columns, strict=True)])


def some_of(
    risk: EmpiricalRisk, max_examples: int, generator: Generator, *, place: str
) -> EmpiricalRisk:
    """The risk itself, or that on a random `max_examples` of its examples, in their order.

    Raises `InputError` naming `place` unless `max_examples` is at least 2.
    """
    if max_examples < 2:
        raise InputError(
            f"{place}.max_examples", str(max_examples), "2 or more", "give such a number"
        )
    if risk.num_examples <= max_examples:
        return risk
    drawn = torch.randperm(risk.num_examples, generator=generator, device=generator.device)
    chosen = drawn[:max_examples].sort().values.to(risk.device)
    return risk.on(*(column[chosen] for column in risk.joined()))
