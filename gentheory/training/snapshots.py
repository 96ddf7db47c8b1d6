"""A stack as it stood after chosen epochs of its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gentheory.errors import InputError
from gentheory.training.stack import Stack

MAX_MEMORY = 2**31
"""Bytes that the parameters and running statistics of all snapshots may take."""


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

    @classmethod
    def start(cls, epochs: Sequence[int], stack: Stack) -> "Snapshots":
        """Before the first step, which the first checkpoint may be.

        Raises `InputError` for epochs that do not rise from 0 on or go beyond the training, and
        where all of them would take more than `MAX_MEMORY`.
        """
        if list(epochs) != sorted({e for e in epochs if 0 <= e < len(stack.curve)}):
            expected = f"rising epochs between 0 and {len(stack.curve) - 1}"
            raise InputError("checkpoints", str(list(epochs)), expected, "correct them")
        kept = [stack.theta, *stack.statistics.values()]
        check_memory(len(epochs), sum(each.numel() * each.element_size() for each in kept))
        shape = (len(epochs), len(stack.theta))
        snapshots = cls(
            tuple(epochs),
            stack.theta.new_full((len(epochs), *stack.theta.shape), torch.nan),
            {name: torch.stack([each] * len(epochs)) for name, each in stack.statistics.items()},
            torch.zeros(shape, dtype=torch.int64),
            torch.zeros(shape, dtype=torch.float64),
            torch.zeros(shape, dtype=torch.bool),
        )
        snapshots.see(0, stack)
        return snapshots

    def see(self, epoch: int, stack: Stack) -> None:
        """Keep the stack after this epoch, if it is one of `epochs`."""
        if epoch not in self.epochs:
            return
        place, present = self.epochs.index(epoch), stack.curve[epoch].isfinite()
        here = present.to(stack.theta.device)
        self.theta[place, here] = stack.theta[here]
        for name, found in stack.statistics.items():
            self.statistics[name][place, here] = found[here]
        self.steps[place, present] = stack.steps[present]
        self.training_time[place, present] = stack.time[present]
        self.present[place] = present


def check_memory(count: int, size: int) -> None:
    """Raise `InputError` where `count` snapshots of a stack of `size` bytes are too large."""
    if count * size > MAX_MEMORY:
        raise InputError(
            "training.checkpoints",
            f"{count} checkpoints of a stack, which take {count * size / 2**30:.2f} GiB",
            f"at most {MAX_MEMORY / 2**30:.2f} GiB",
            "ask for fewer checkpoints, or for a smaller stack",
        )
