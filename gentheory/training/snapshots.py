"""A stack as it stood after chosen epochs of its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gentheory.errors import InputError
from gentheory.training.recorder import Recorder
from gentheory.training.stack import Stack
from gentheory.trajectory import Trajectory

MAX_MEMORY = 2**31
"""Bytes that the parameters, running statistics and trajectories of all snapshots may take."""


@dataclass(frozen=True)
class Snapshots:
    """S checkpoints of M models, filled while training goes on.

    A model that had ended before a checkpoint, at its target or by diverging, is absent there:
    its parameters are nan.
    """

    epochs: tuple[int, ...]
    """S rising numbers; 0 is before the first step."""
    theta: Float[Tensor, "S M P"]
    statistics: Mapping[str, Tensor]
    """Running statistics of normalization, [S, M, ...] by name."""
    steps: Int[Tensor, "S M"]
    training_time: Float[Tensor, "S M"]
    present: Bool[Tensor, "S M"]
    trajectories: dict[int, Trajectory] = field(default_factory=dict[int, Trajectory])
    """The stack's up to each of the epochs, if it is kept; their windows are those of the whole
    training, of which the last that a model has reached may end before its time."""

    @classmethod
    def start(
        cls, epochs: Sequence[int], stack: Stack, recorder: Recorder | None = None
    ) -> "Snapshots":
        """Before the first step, which the first checkpoint may be.

        Raises `InputError` for epochs that do not rise from 0 on or go beyond the training, and
        where all of them would take more than `MAX_MEMORY`.
        """
        if list(epochs) != sorted({e for e in epochs if 0 <= e < len(stack.curve)}):
            expected = f"rising epochs between 0 and {len(stack.curve) - 1}"
            raise InputError("checkpoints", str(list(epochs)), expected, "correct them")
        theta, statistics = stack.state.theta, stack.state.statistics.values()
        numbers = theta.numel() + (0 if recorder is None else recorder.numbers)
        size = sum(each.numel() * each.element_size() for each in statistics)
        check_memory(len(epochs), size + numbers * theta.element_size())
        shape = (len(epochs), len(stack.state.theta))
        snapshots = cls(
            tuple(epochs),
            stack.state.theta.new_full((len(epochs), *stack.state.theta.shape), torch.nan),
            {
                name: torch.stack([each] * len(epochs))
                for name, each in stack.state.statistics.items()
            },
            torch.zeros(shape, dtype=torch.int64),
            torch.zeros(shape, dtype=torch.float64),
            torch.zeros(shape, dtype=torch.bool),
        )
        snapshots.see(0, stack, recorder)
        return snapshots

    def see(self, epoch: int, stack: Stack, recorder: Recorder | None = None) -> None:
        """Keep the stack after this epoch, if it is one of `epochs`."""
        if epoch not in self.epochs:
            return
        place, present = self.epochs.index(epoch), stack.curve[epoch].isfinite()
        here = present.to(stack.state.theta.device)
        self.theta[place, here] = stack.state.theta[here]
        for name, found in stack.state.statistics.items():
            self.statistics[name][place, here] = found[here]
        self.steps[place, present] = stack.steps[present]
        self.training_time[place, present] = stack.time[present]
        self.present[place] = present
        if recorder is not None:
            self.trajectories[epoch] = recorder.trajectory(self.theta.dtype)

    def trim(self, stack: Stack) -> None:
        """Drop what lies beyond the epoch that a model went back to."""
        own = stack.curve[list(self.epochs)].isfinite()
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
