"""Sharpness-aware training for free (Du et al. 2022): a loss that holds the outputs where they
were, in place of a search for sharpness.

After `start` epochs a batch B of a model has the loss

    L_B + λ / |B| Σ_i KL( softmax(y_i / τ) ‖ softmax(f_i / τ) ),

y_i the outputs that example i had `delay` epochs ago, when its batch came; they are given, no
gradient runs through them. The divergence is the paper's, without a factor τ².
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gentheory.errors import InputError
from gentheory.losses import Loss
from gentheory.training.gradient import Objective

MAX_MEMORY = 2**32
"""Bytes of outputs that a stack may keep."""


def objective(loss: Loss) -> Objective:
    """The mean loss of a batch with the trajectory loss; takes the targets of `Memory.attached`."""

    def value(outputs: Tensor, targets: Any) -> Tensor:
        targets, old, weight, temperature = targets
        return loss.mean(outputs, targets) + weight * divergence(old, outputs, temperature)

    return value


def divergence(
    old: Float[Tensor, "B C"], outputs: Float[Tensor, "B C"], temperature: Tensor | float
) -> Float[Tensor, ""]:
    """Mean over the examples of KL( softmax(old / τ) ‖ softmax(outputs / τ) )."""
    before = torch.log_softmax(old / temperature, dim=-1)
    now = torch.log_softmax(outputs / temperature, dim=-1)
    return (before.exp() * (before - now)).sum(-1).mean()


@dataclass
class Memory:
    """The outputs of the last `delay` epochs: delay · N · C numbers a model."""

    outputs: Float[Tensor, "T M N C"]
    start: int
    weight: Float[Tensor, "M 1"]
    temperature: Float[Tensor, "M 1"]

    @classmethod
    def of(
        cls,
        size: tuple[int, int, int, int],
        start: int,
        weight: Float[Tensor, "M 1"],
        temperature: Float[Tensor, "M 1"],
    ) -> "Memory":
        """Empty, for `size` epochs, models, examples and outputs.

        Raises `InputError` where that is more than `MAX_MEMORY`.
        """
        needed = torch.Size(size).numel() * weight.element_size()
        if needed > MAX_MEMORY:
            raise InputError(
                "optimizer saf",
                f"{needed / 2**30:.1f} GiB of outputs of earlier epochs",
                f"at most {MAX_MEMORY / 2**30:.0f} GiB",
                "choose smaller stacks, fewer examples or a smaller saf_delay",
            )
        return cls(weight.new_zeros(size), start, weight, temperature)

    def attached(
        self,
        epoch: int,
        models: Int[Tensor, " M"],
        examples: Int[Tensor, "M B"],
        targets: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(targets, old outputs, weight, temperature) of a batch of these models."""
        delay = len(self.outputs)
        old = self.outputs[epoch % delay, models[:, None], examples]
        # Without outputs to compare with, the weight is 0.
        weight = self.weight[models, 0] * (epoch > max(self.start, delay))
        return targets, old, weight, self.temperature[models, 0]

    def keep(
        self,
        epoch: int,
        models: Int[Tensor, " M"],
        examples: Int[Tensor, "M B"],
        outputs: Float[Tensor, "M B C"],
    ) -> None:
        """What the examples' outputs are in this epoch, in place of the oldest."""
        self.outputs[epoch % len(self.outputs), models[:, None], examples] = outputs
