"""Keeps a stack's trajectory while it trains, from what each step computes anyway."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from gentheory.losses import Loss
from gentheory.training.evaluate import per_example
from gentheory.trajectory import Trajectory


def window_ends(epochs: int) -> tuple[int, ...]:
    """The epochs after which the windows end: a quarter, half and all of training."""
    return tuple(sorted({math.ceil(epochs / 4), math.ceil(epochs / 2), epochs}))


def trajectory_numbers(epochs: int, examples: int, outputs: int, parameters: int) -> int:
    """How many the trajectory of one model will hold."""
    margins = examples * (outputs > 1)
    return len(window_ends(epochs)) * (1 + examples * (outputs + 1) + margins + parameters)


@dataclass
class Recorder:
    """Sums over the windows so far; a model that diverges spoils its own alone."""

    loss: Loss
    ends: tuple[int, ...]
    time: Float[Tensor, "M W"]
    mass: Float[Tensor, "M W N"]
    residuals: Float[Tensor, "M W N C"]
    traces: Float[Tensor, "M W N"]
    parameters: Float[Tensor, "M W P"]
    margins: Float[Tensor, "M W N"] | None
    """None where there is one output, or where outputs are no scores of classes."""

    @classmethod
    def start(
        cls,
        loss: Loss,
        theta: Float[Tensor, "M P"],
        epochs: int,
        size: tuple[int, int],
        *,
        classes: bool,
    ) -> "Recorder":
        """Before the first step; `size` is N examples and C outputs, of `classes` or not."""
        ends = window_ends(epochs)
        time = torch.zeros(len(theta), len(ends), dtype=torch.float64, device=theta.device)
        mass = time[..., None].repeat(1, 1, size[0])
        scores = classes and size[1] > 1 and loss.block is None
        return cls(
            loss,
            ends,
            time,
            mass,
            mass[..., None].repeat(1, 1, 1, size[1]),
            mass.clone(),
            theta[:, None].repeat(1, len(ends), 1),
            mass.clone() if scores else None,
        )

    def see(
        self,
        epoch: int,
        models: Int[Tensor, " M"],
        examples: Int[Tensor, "M B"],
        outputs: Float[Tensor, "M B C"],
        targets: Shaped[Tensor, "M B ..."],
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
        if self.margins is not None:
            self.margins[rows, window, examples] += lasting * _margins(outputs, targets).double()
        self.mass[rows, window, examples] += lasting
        self.time[models, window] += lasting[:, 0]

    @property
    def numbers(self) -> int:
        """How many the `trajectory` of the whole stack holds."""
        kept = (self.time, self.residuals, self.traces, self.parameters, self.margins)
        return sum(each.numel() for each in kept if each is not None)

    def end_epoch(self, epoch: int, models: Int[Tensor, " M"], theta: Float[Tensor, "M P"]) -> None:
        """Where an epoch led to."""
        self.parameters[models, self._window(epoch)] = theta

    def trajectory(self, dtype: torch.dtype) -> Trajectory:
        """The means so far; what is seen later leaves them as they are."""
        return Trajectory(
            self.time.clone(),
            (self.residuals / self.mass[..., None]).to(dtype),
            (self.traces / self.mass).to(dtype),
            self.parameters.clone(),
            None if self.margins is None else (self.margins / self.mass).to(dtype),
        )

    def _window(self, epoch: int) -> int:
        return next(index for index, end in enumerate(self.ends) if epoch <= end)


def _margins(outputs: Float[Tensor, "M B C"], targets: Int[Tensor, "M B"]) -> Float[Tensor, "M B"]:
    """z_y − max over k ≠ y of z_k."""
    own = targets[..., None]
    others = outputs.scatter(-1, own, -torch.inf).amax(-1)
    return outputs.gather(-1, own)[..., 0] - others
