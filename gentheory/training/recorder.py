"""Keeps a stack's trajectory while it trains, from what each step computes anyway."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gentheory.losses import Loss
from gentheory.training.evaluate import per_example
from gentheory.trajectory import Trajectory


@dataclass
class Recorder:
    """Sums over the windows so far; a model that diverges spoils its own alone."""

    loss: Loss
    ends: tuple[int, ...]
    """The epochs after which the windows end: a quarter, half and all of training."""
    time: Float[Tensor, "M W"]
    mass: Float[Tensor, "M W N"]
    residuals: Float[Tensor, "M W N C"]
    traces: Float[Tensor, "M W N"]
    parameters: Float[Tensor, "M W P"]

    @classmethod
    def start(
        cls, loss: Loss, theta: Float[Tensor, "M P"], epochs: int, size: tuple[int, int]
    ) -> "Recorder":
        """Before the first step; `size` is N examples and C outputs."""
        ends = tuple(sorted({math.ceil(epochs / 4), math.ceil(epochs / 2), epochs}))
        time = torch.zeros(len(theta), len(ends), dtype=torch.float64, device=theta.device)
        mass = time[..., None].repeat(1, 1, size[0])
        return cls(
            loss,
            ends,
            time,
            mass,
            mass[..., None].repeat(1, 1, 1, size[1]),
            mass.clone(),
            theta[:, None].repeat(1, len(ends), 1),
        )

    def see(
        self,
        epoch: int,
        models: Int[Tensor, " M"],
        examples: Int[Tensor, "M B"],
        outputs: Float[Tensor, "M B C"],
        targets: Int[Tensor, "M B"],
        duration: Float[Tensor, " M"],
    ) -> None:
        """The outputs that a step of this duration finds on its batch; epochs count from 1."""
        window = self._window(epoch)
        lasting = duration.to(self.time)[:, None]
        residuals = per_example(self.loss.gradient, outputs, targets).double()
        traces = per_example(self.loss.hessian_trace, outputs, targets).double()
        rows = models[:, None]
        self.residuals[rows, window, examples] += lasting[..., None] * residuals
        self.traces[rows, window, examples] += lasting * traces
        self.mass[rows, window, examples] += lasting
        self.time[models, window] += lasting[:, 0]

    def end_epoch(self, epoch: int, models: Int[Tensor, " M"], theta: Float[Tensor, "M P"]) -> None:
        """Where an epoch led to."""
        self.parameters[models, self._window(epoch)] = theta

    def trajectory(self, dtype: torch.dtype) -> Trajectory:
        """The means."""
        return Trajectory(
            self.time,
            (self.residuals / self.mass[..., None]).to(dtype),
            (self.traces / self.mass).to(dtype),
            self.parameters,
        )

    def _window(self, epoch: int) -> int:
        return next(index for index, end in enumerate(self.ends) if epoch <= end)
