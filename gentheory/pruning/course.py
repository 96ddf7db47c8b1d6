"""What is kept of one model's training between two looks at it."""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.trajectory import Trajectory


@dataclass(frozen=True)
class Residuals:
    """Means over training, up to the last look, of what the loss makes of each example's outputs.

    Training is seen at its looks alone. Between two of them the mean of both counts (the
    trapezoidal rule), and the first one stands for all the time before it: a look before the
    first step adds how training began.
    """

    time: float
    last: tuple[Float[Tensor, "N C"], Float[Tensor, " N"]]
    """Gradients of the losses in the outputs, and the traces of their Hessians, at the look."""
    mean: tuple[Float[Tensor, "N C"], Float[Tensor, " N"]]

    @classmethod
    def first(cls, time: float, found: tuple[Tensor, Tensor]) -> "Residuals":
        """At the first look."""
        return cls(time, found, found)

    def later(self, time: float, found: tuple[Tensor, Tensor]) -> "Residuals":
        """With one look more, which counts nothing if no time has passed."""
        share = (time - self.time) / time if time > self.time else 0.0
        seen = zip(self.mean, self.last, found, strict=True)
        residuals, traces = (torch.lerp(mean, (a + b) / 2, share) for mean, a, b in seen)
        return Residuals(time, found, (residuals, traces))

    def trajectory(self, theta: Float[Tensor, " P"]) -> Trajectory:
        """As one window, which ends at these parameters."""
        residuals, traces = self.mean
        time = residuals.new_tensor([self.time])
        return Trajectory(time, residuals[None], traces[None], theta[None])


@dataclass
class Course:
    """Of one model in one trial."""

    trial: Hashable
    step: float = -1.0
    """Of the last look."""
    residuals: Residuals | None = None
