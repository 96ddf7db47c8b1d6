"""A stack in training: where each model stands, and what has become of it."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gentheory.data.split import Split
from gentheory.losses import Loss
from gentheory.models.norm import running_statistics
from gentheory.training.evaluate import gathered, mean_losses
from gentheory.training.state import State

Outcome = Literal["finished", "target", "gradient", "curvature", "diverged"]
"""Of a model: all epochs, a stopping rule that it met, or not finite."""

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

    def batch(
        self, models: Tensor, examples: Int[Tensor, "M B"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "M B ..."], Tensor]:
        """Inputs and targets of these models' own examples."""
        index = self.index(models, examples)
        return gathered(self.data.inputs, index).to(dtype), gathered(self.data.targets, index)

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
        means = mean_losses(self.module, self.loss, theta, *data, rows, statistics=statistics)
        return means.cpu()


@dataclass(frozen=True)
class _Past:
    """A stack after an earlier epoch."""

    state: State
    steps: Int[Tensor, " M"]
    time: Float[Tensor, " M"]


@dataclass
class Stack:
    """Where M models stand and their record, as training goes on."""

    state: State
    outcomes: list[Outcome | None]
    """None while a model goes on."""
    steps: Int[Tensor, " M"]
    time: Float[Tensor, " M"]
    curve: Float[Tensor, "T M"]
    past: deque[_Past] = field(default_factory=lambda: deque[_Past](maxlen=0))
    """After each of the last epochs, the oldest first, as many as are to be kept."""

    @classmethod
    def start(cls, task: Task, state: State, epochs: int, *, epochs_back: int = 0) -> "Stack":
        """Before the first step; `epochs_back` is how far `go_back` can go."""
        count = len(state.theta)
        curve = torch.full((epochs + 1, count), torch.nan, dtype=torch.float64)
        curve[0] = task.losses(torch.arange(count), state.theta, state.statistics)
        return cls(
            state,
            [None] * count,
            torch.zeros(count, dtype=torch.int64),
            torch.zeros(count, dtype=torch.float64),
            curve,
            deque(maxlen=epochs_back + 1 if epochs_back else 0),
        )

    def running(self) -> Int[Tensor, " M"]:
        """The models that go on."""
        going = [m for m, outcome in enumerate(self.outcomes) if outcome is None]
        return torch.tensor(going, dtype=torch.int64)

    def advance(
        self,
        epoch: int,
        models: Int[Tensor, " M"],
        state: State,
        losses: Float[Tensor, " M"],
        steps: int,
        duration: Float[Tensor, " M"],
    ) -> None:
        """Take these models to the state after an epoch, but for those that diverged in it."""
        good = losses.isfinite() & (losses <= DIVERGED_ABOVE * self.curve[0, models])
        good &= state.theta.isfinite().all(1).cpu()
        self.steps[models] += steps
        self.time[models] += duration
        self.curve[epoch, models] = torch.where(good, losses, torch.nan)
        kept = good.to(state.theta.device)
        if good.all():
            self.state = self.state.put(models.to(kept.device), state)
        else:
            self.state = self.state.put(models.to(kept.device)[kept], state.take(kept))
        for m in models[~good].tolist():
            self.outcomes[m] = "diverged"
        self.past.append(_Past(self.state, self.steps.clone(), self.time.clone()))

    def stop(self, models: Sequence[int], outcome: Outcome) -> None:
        """These models go on no more."""
        for m in models:
            self.outcomes[m] = outcome

    def go_back(self, models: Sequence[int], epochs: int) -> None:
        """Take these models back to where they were, with their record, so many epochs ago."""
        if not models:
            return
        there, rows = self.past[-1 - epochs], torch.tensor(models)
        here = rows.to(self.state.theta.device)
        self.state = self.state.put(here, there.state.take(here))
        self.steps[rows], self.time[rows] = there.steps[rows], there.time[rows]
        for m in models:
            last = int(self.curve[:, m].isfinite().nonzero().max())
            self.curve[last - epochs + 1 :, m] = torch.nan
