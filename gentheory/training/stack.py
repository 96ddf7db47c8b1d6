"""A stack in training: where each model stands, and what has become of it."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gentheory.data.split import Split
from gentheory.losses import Loss
from gentheory.training.evaluate import per_example, stacked_outputs

Outcome = Literal["finished", "target", "diverged"]

DIVERGED_ABOVE = 100.0
"""A training loss this many times the first one, or not finite, counts as diverged."""


@dataclass(frozen=True)
class Look:
    """What one forward pass says of the models of a stack, each on its own examples."""

    losses: Float[Tensor, " M"]  # means, on the CPU
    residuals: Float[Tensor, "M N C"] | None


@dataclass(frozen=True)
class Task:
    """What a stack is trained for: a loss on data, of which each model may have its own rows."""

    module: nn.Module
    loss: Loss
    data: Split
    rows: Int[Tensor, "M N"] | None
    keep_residuals: bool

    @property
    def num_examples(self) -> int:
        """Of each model."""
        return len(self.data) if self.rows is None else self.rows.shape[1]

    def order(self, models: Tensor, shuffled: Int[Tensor, "M N"]) -> Int[Tensor, "M N"]:
        """Indices into the data, of shuffled indices into these models' own examples."""
        shuffled = shuffled.to(self.data.inputs.device)
        return shuffled if self.rows is None else self.rows[models].gather(1, shuffled)

    def look(self, models: Tensor, theta: Float[Tensor, "M P"]) -> Look:
        """Mean losses of these models and, if they are kept, their residuals."""
        rows = None if self.rows is None else self.rows[models]
        losses: list[Tensor] = []
        residuals: list[Tensor] = []
        data = (self.data.inputs, self.data.targets)
        for outputs, targets in stacked_outputs(self.module, theta, *data, rows):
            losses.append(per_example(self.loss.values, outputs, targets).double())
            if self.keep_residuals:
                residuals.append(per_example(self.loss.gradient, outputs, targets))
        return Look(
            torch.cat(losses, dim=1).mean(1).cpu(), torch.cat(residuals, 1) if residuals else None
        )


@dataclass
class Stack:
    """Parameters and record of M models, as training goes on."""

    theta: Float[Tensor, "M P"]
    buffer: Float[Tensor, "M P"]
    outcomes: list[Outcome | None]
    """None while a model goes on."""
    steps: Int[Tensor, " M"]
    time: Float[Tensor, " M"]
    curve: Float[Tensor, "T M"]
    path: "ResidualPath | None"

    @classmethod
    def start(cls, theta: Float[Tensor, "M P"], look: Look, epochs: int) -> "Stack":
        """Before the first step."""
        count = len(theta)
        curve = torch.full((epochs + 1, count), torch.nan, dtype=torch.float64)
        curve[0] = look.losses
        return cls(
            theta,
            torch.zeros_like(theta),
            [None] * count,
            torch.zeros(count, dtype=torch.int64),
            torch.zeros(count, dtype=torch.float64),
            curve,
            None if look.residuals is None else ResidualPath.start(look.residuals),
        )

    def running(self) -> Int[Tensor, " M"]:
        """The models that go on."""
        going = [m for m, outcome in enumerate(self.outcomes) if outcome is None]
        return torch.tensor(going, dtype=torch.int64)

    def advance(
        self,
        epoch: int,
        models: Int[Tensor, " M"],
        state: tuple[Float[Tensor, "M P"], Float[Tensor, "M P"]],
        look: Look,
        duration: Float[Tensor, " M"],
        target: float | None,
    ) -> None:
        """Take these models to the state after an epoch, but for those that diverged in it."""
        losses, (theta, buffer) = look.losses, state
        good = losses.isfinite() & (losses <= DIVERGED_ABOVE * self.curve[0, models])
        good &= theta.isfinite().all(1).cpu()
        self.time[models] += duration
        self.curve[epoch, models] = torch.where(good, losses, torch.nan)
        kept = good.to(theta.device)
        here = models.to(theta.device)[kept]
        self.theta = self.theta.index_copy(0, here, theta[kept])
        self.buffer = self.buffer.index_copy(0, here, buffer[kept])
        if self.path is not None and look.residuals is not None:
            self.path.extend(here, look.residuals[kept], duration[good])
        for m, fine, loss in zip(models.tolist(), good.tolist(), losses.tolist(), strict=True):
            self.outcomes[m] = _outcome(fine, loss, target)


@dataclass
class ResidualPath:
    """The integral of a stack's residuals over its learning-rate time, as training goes on."""

    last: Float[Tensor, "M N C"]
    integral: Float[Tensor, "M N C"]
    time: Float[Tensor, " M"]

    @classmethod
    def start(cls, residuals: Float[Tensor, "M N C"]) -> "ResidualPath":
        """Before the first step."""
        return cls(residuals, torch.zeros_like(residuals), residuals.new_zeros(len(residuals)))

    def extend(
        self, models: Tensor, residuals: Float[Tensor, "M N C"], duration: Float[Tensor, " M"]
    ) -> None:
        """Go on to these residuals of these models, which took them this long; by trapezoids."""
        duration = duration.to(self.time)
        self.integral[models] += 0.5 * duration[:, None, None] * (self.last[models] + residuals)
        self.last[models] = residuals
        self.time[models] += duration

    def mean(self) -> Float[Tensor, "M N C"]:
        """Over the time so far; nan for a model that has none."""
        return self.integral / self.time[:, None, None]


def _outcome(fine: bool, loss: float, target: float | None) -> Outcome | None:
    """What has become of a model after an epoch; None while it goes on."""
    if not fine:
        return "diverged"
    return "target" if target is not None and loss <= target else None
