"""A stack in training: where each model stands, and what has become of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gentheory.data.split import Split
from gentheory.losses import Loss
from gentheory.models.norm import running_statistics
from gentheory.training.evaluate import mean_losses

Outcome = Literal["finished", "target", "diverged"]

DIVERGED_ABOVE = 100.0
"""A training loss this many times the first one, or not finite, counts as diverged."""


@dataclass(frozen=True)
class Task:
    """What a stack is trained for: a loss on data, of which each model may have its own rows."""

    module: nn.Module
    loss: Loss
    data: Split
    rows: Int[Tensor, "M N"] | None

    @property
    def num_examples(self) -> int:
        """Of each model."""
        return len(self.data) if self.rows is None else self.rows.shape[1]

    def index(self, models: Tensor, examples: Int[Tensor, "M B"]) -> Int[Tensor, "M B"]:
        """Indices into the data, of indices into these models' own examples."""
        return examples if self.rows is None else self.rows[models].gather(1, examples)

    def statistics(self, theta: Float[Tensor, "M P"]) -> dict[str, Tensor]:
        """Running statistics of each model before the first step, [M, ...] by name."""
        found = running_statistics(self.module)
        placed = {
            n: b.to(theta.device, theta.dtype if b.is_floating_point() else None)
            for n, b in found.items()
        }
        return {name: torch.stack([buffer] * len(theta)) for name, buffer in placed.items()}

    def losses(
        self, models: Tensor, theta: Float[Tensor, "M P"], statistics: Mapping[str, Tensor]
    ) -> Float[Tensor, " M"]:
        """Mean losses of these models, each on its own examples; on the CPU."""
        rows = None if self.rows is None else self.rows[models]
        data = (self.data.inputs, self.data.targets)
        return mean_losses(
            self.module, self.loss, theta, *data, rows, statistics=statistics
        ).cpu()


@dataclass
class Stack:
    """Parameters and record of M models, as training goes on."""

    theta: Float[Tensor, "M P"]
    buffer: Float[Tensor, "M P"]
    statistics: dict[str, Tensor]
    """Running statistics of normalization, [M, ...] by name."""
    outcomes: list[Outcome | None]
    """None while a model goes on."""
    steps: Int[Tensor, " M"]
    time: Float[Tensor, " M"]
    curve: Float[Tensor, "T M"]

    @classmethod
    def start(cls, task: Task, theta: Float[Tensor, "M P"], epochs: int) -> "Stack":
        """Before the first step."""
        count, statistics = len(theta), task.statistics(theta)
        curve = torch.full((epochs + 1, count), torch.nan, dtype=torch.float64)
        curve[0] = task.losses(torch.arange(count), theta, statistics)
        return cls(
            theta,
            torch.zeros_like(theta),
            statistics,
            [None] * count,
            torch.zeros(count, dtype=torch.int64),
            torch.zeros(count, dtype=torch.float64),
            curve,
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
        statistics: Mapping[str, Tensor],
        losses: Float[Tensor, " M"],
        duration: Float[Tensor, " M"],
        target: float | None,
    ) -> None:
        """Take these models to the state after an epoch, but for those that diverged in it."""
        theta, buffer = state
        good = losses.isfinite() & (losses <= DIVERGED_ABOVE * self.curve[0, models])
        good &= theta.isfinite().all(1).cpu()
        self.time[models] += duration
        self.curve[epoch, models] = torch.where(good, losses, torch.nan)
        kept = good.to(theta.device)
        here = models.to(theta.device)[kept]
        self.theta = self.theta.index_copy(0, here, theta[kept])
        self.buffer = self.buffer.index_copy(0, here, buffer[kept])
        for name, found in statistics.items():
            self.statistics[name] = self.statistics[name].index_copy(0, here, found[kept])
        for m, fine, loss in zip(models.tolist(), good.tolist(), losses.tolist(), strict=True):
            self.outcomes[m] = _outcome(fine, loss, target)


def _outcome(fine: bool, loss: float, target: float | None) -> Outcome | None:
    """What has become of a model after an epoch; None while it goes on."""
    if not fine:
        return "diverged"
    return "target" if target is not None and loss <= target else None
