"""Normalization that a stack of models can carry."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentheory.models.options import one_of

Norm = Literal["none", "batch", "group"]

GROUP_CHANNELS = 8
"""Channels normalized together by GroupNorm, as far as the width divides."""

_MOMENTUM = 0.1


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that puts new running statistics in the place of the old ones.

    Never written in place, they can be handed to `torch.func.functional_call` beside the
    parameters: the dictionary then holds the new ones, [M, C] under `vmap`, each model its own.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, height, width] -> the same shape."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        variance, mean = torch.var_mean(input.detach(), (0, 2, 3))
        self.running_mean = torch.lerp(self.running_mean, mean, _MOMENTUM)
        self.running_var = torch.lerp(self.running_var, variance, _MOMENTUM)
        self.num_batches_tracked = self.num_batches_tracked + 1
        return F.batch_norm(input, None, None, self.weight, self.bias, training=True, eps=self.eps)


def normalized(layer: nn.Module, channels: int, norm: Norm) -> nn.Sequential:
    """The layer, and what normalizes its output of so many channels."""
    if norm == "none":
        return nn.Sequential(layer)
    if norm == "batch":
        return nn.Sequential(layer, BatchNorm(channels, momentum=_MOMENTUM))
    # Groups of one channel would leave nothing of an image of one pixel.
    together = math.gcd(channels, GROUP_CHANNELS)
    groups = 1 if together == 1 else channels // together
    return nn.Sequential(layer, nn.GroupNorm(groups, channels))


def check_norm(place: str, norm: str) -> None:
    """Raise `InputError` for a kind of normalization that does not exist."""
    one_of(place, norm, ("none", "batch", "group"))
