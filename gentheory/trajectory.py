"""What training may keep of its way: means over a few windows of it, each twice as long."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Trajectory:
    """Windows of training in their order: [W] of one model, [M, W] of a stack, or a single one.

    Time is learning rate / (1 - momentum) summed over the steps; it weights the means. What the
    outputs were is seen at each step on its batch, before the step. A window that training did
    not reach has no time, and nan for means.
    """

    time: Float[Tensor, "*windows"]
    residuals: Float[Tensor, "*windows N C"]
    """Mean gradients of the examples' losses in the outputs."""
    traces: Float[Tensor, "*windows N"]
    """Mean traces of the losses' Hessians in the outputs."""
    parameters: Float[Tensor, "*windows P"]
    """At the window's end; those of the last window are the trained ones."""
    margins: Float[Tensor, "*windows N"] | None = None
    """Mean margins z_y − max over k ≠ y of z_k; None where there are no classes, or none kept."""

    def __getitem__(self, index: int) -> "Trajectory":
        """One model of a stack, or one window of a model."""
        return Trajectory(*(tensor[index] for tensor in self.tensors().values()))

    def tensors(self) -> dict[str, Tensor]:
        """By the names of the fields, those that are kept."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def to(self, like: Tensor) -> "Trajectory":
        """On the device and in the dtype of another tensor."""
        return Trajectory(*(tensor.to(like) for tensor in self.tensors().values()))

    def of_first(self, count: int) -> "Trajectory":
        """Of the first examples alone."""
        margins = None if self.margins is None else self.margins[..., :count]
        residuals, traces = self.residuals[..., :count, :], self.traces[..., :count]
        return replace(self, residuals=residuals, traces=traces, margins=margins)

    def windows(self) -> list["Trajectory"]:
        """Those of one model that training reached."""
        return [self[w] for w in range(len(self.time)) if self.time[w] > 0]

    @property
    def mean_residuals(self) -> Float[Tensor, "N C"]:
        """Over the whole of one model's training."""
        return self._mean("residuals")

    @property
    def mean_traces(self) -> Float[Tensor, " N"]:
        """Likewise."""
        return self._mean("traces")

    def _mean(self, name: str) -> Tensor:
        reached = self.windows()
        time = sum((window.time for window in reached), torch.zeros_like(self.time[0]))
        parts = (window.time / time * getattr(window, name) for window in reached)
        return sum(parts, torch.zeros_like(getattr(self, name)[0]))


NAMES = tuple(field.name for field in fields(Trajectory))
