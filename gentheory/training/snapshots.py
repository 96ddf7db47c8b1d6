"""A stack as it stood after chosen steps of its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gentheory.errors import InputError
from gentheory.training.recorder import Recorder
from gentheory.training.stack import Stack
from gentheory.training.state import State
from gentheory.trajectory import Trajectory

MAX_MEMORY = 2**31
"""Bytes that the parameters, running statistics and trajectories of all snapshots may take."""


@dataclass(frozen=True)
class Snapshots:
    """S checkpoints of M models, filled while training goes on.

    A model that had ended before a checkpoint, at its target or by diverging, is absent there:
    its parameters are nan.
    """

    steps: tuple[int, ...]
    """S rising numbers of steps of the optimizer; 0 is before the first."""
    epoch_steps: int
    """Steps of an epoch, the same for all models of the stack."""
    theta: Float[Tensor, "S M P"]
    statistics: Mapping[str, Tensor]
    """Running statistics of normalization, [S, M, ...] by name."""
    training_time: Float[Tensor, "S M"]
    present: Bool[Tensor, "S M"]
    trajectories: dict[int, Trajectory] = field(default_factory=dict[int, Trajectory])
    """By step, the stack's up to each checkpoint at the end of an epoch, if it is kept; inside one
    not all examples have been seen. Their windows are those of the whole training, of which the
    last that a model has reached may end before its time."""

    @classmethod
    def start(
        cls,
        steps: Sequence[int],
        stack: Stack,
        recorder: Recorder | None = None,
        *,
        epochs: int,
        epoch_steps: int,
    ) -> "Snapshots":
        """Before the first step, which the first checkpoint may be, of so many epochs.

        Raises `InputError` for steps that do not rise from 0 on or go beyond the training, and
        where all of them would take more than `MAX_MEMORY`.
        """
        last = epochs * epoch_steps
        if list(steps) != sorted({step for step in steps if 0 <= step <= last}):
            expected = f"rising steps between 0 and {last}"
            raise InputError("checkpoints", str(list(steps)), expected, "correct them")
        theta, statistics = stack.state.theta, stack.state.statistics.values()
        numbers = theta.numel() + (0 if recorder is None else recorder.numbers)
        size = sum(each.numel() * each.element_size() for each in statistics)
        check_memory(len(steps), size + numbers * theta.element_size())
        shape = (len(steps), len(theta))
        snapshots = cls(
            tuple(steps),
            epoch_steps,
            stack.state.theta.new_full((len(steps), *stack.state.theta.shape), torch.nan),
            {
                name: torch.stack([each] * len(steps))
                for name, each in stack.state.statistics.items()
            },
            torch.zeros(shape, dtype=torch.float64),
            torch.zeros(shape, dtype=torch.bool),
        )
        snapshots.end_epoch(0, stack, recorder)
        return snapshots

    def end_epoch(self, epoch: int, stack: Stack, recorder: Recorder | None = None) -> None:
        """Keep the models whose loss after this epoch is known, if it ends in a checkpoint."""
        step = epoch * self.epoch_steps
        if step in self.steps:
            models = stack.curve[epoch].isfinite().nonzero()[:, 0]
            here = models.to(stack.state.theta.device)
            self.keep(step, models, stack.state.take(here), stack.time[models])
            if recorder is not None:
                self.trajectories[step] = recorder.trajectory(self.theta.dtype)

    def keep(
        self, step: int, models: Int[Tensor, " M"], state: State, time: Float[Tensor, " M"]
    ) -> None:
        """Keep these models as they stand after one of `steps`; the others are absent there."""
        place, here = self.steps.index(step), models.to(self.theta.device)
        self.theta[place, here] = state.theta
        for name, found in state.statistics.items():
            self.statistics[name][place, here] = found
        self.training_time[place, models] = time
        self.present[place, models] = True

    def trim(self, stack: Stack) -> None:
        """Drop what lies beyond the epoch that a model went back to."""
        own = torch.tensor(self.steps)[:, None] <= stack.steps
        self.theta[~own] = torch.nan
        self.present.logical_and_(own)


def check_memory(count: int, size: int) -> None:
    """Raise `InputError` where `count` snapshots of a stack of `size` bytes are too large."""
    if count * size > MAX_MEMORY:
        raise InputError(
            "training.checkpoints",
            f"{count} checkpoints of a stack, which take {count * size / 2**30:.2f} GiB",
            f"at most {MAX_MEMORY / 2**30:.2f} GiB",
            "ask for fewer checkpoints, or for a smaller stack",
        )
