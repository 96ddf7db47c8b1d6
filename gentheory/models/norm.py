"""Normalization that a stack of models can carry."""

import copy
import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentheory.errors import InputError
from gentheory.models.options import one_of

Norm = Literal["none", "batch", "group"]

GROUP_CHANNELS = 8
"""Channels normalized together by GroupNorm, as far as the width divides."""

_MOMENTUM = 0.1


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that puts new running statistics in the place of the old ones.

    Features without pixels are normalized as `nn.BatchNorm1d` does it. Never written in place,
    the statistics can be handed to `torch.func.functional_call` beside the parameters: the
    dictionary then holds the new ones, [M, C] under `vmap`, each model its own. Raises
    `InputError` for a batch of one number a channel.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C] or [B, C, height, width] -> the same shape."""
        if not self.training:
            return super().forward(input)
        if input.numel() == input.shape[1]:
            raise InputError(
                "BatchNorm",
                "one example of one pixel",
                "two numbers of each channel or more, to take their variance",
                'choose a batch size that leaves no batch of one example, or norm = "group"',
            )
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        variance, mean = torch.var_mean(input.detach(), (0, *range(2, input.ndim)))
        self.running_mean = torch.lerp(self.running_mean, mean, _MOMENTUM)
        self.running_var = torch.lerp(self.running_var, variance, _MOMENTUM)
        self.num_batches_tracked = self.num_batches_tracked + 1
        return F.batch_norm(input, None, None, self.weight, self.bias, training=True, eps=self.eps)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 4):
            super()._check_input_dim(input)


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


_IN_PLACE = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)


def running_statistics(module: nn.Module) -> dict[str, Tensor]:
    """What training changes beside the parameters, by name: the buffers of every `BatchNorm`.

    Raises `InputError` for a module in training mode that writes its own in place, which no stack
    can do.
    """
    found: dict[str, Tensor] = {}
    for path, part in module.named_modules():
        if isinstance(part, BatchNorm):
            found |= {f"{path}.{name}".lstrip("."): b for name, b in part.named_buffers()}
        elif isinstance(part, _IN_PLACE) and part.training and part.track_running_stats:
            raise InputError(
                f"{type(module).__name__}, {path!r}",
                f"{type(part).__name__}, which writes its running statistics in place",
                "normalization that a stack of models can carry",
                "use gentheory.models.norm.BatchNorm or nn.GroupNorm, or freeze it by eval()",
            )
    return found


def with_statistics(module: nn.Module, statistics: Mapping[str, Tensor]) -> nn.Module:
    """A copy with these running statistics; the module itself where there are none."""
    if not statistics:
        return module
    module = copy.deepcopy(module)
    for name, buffer in statistics.items():
        path, _, own = name.rpartition(".")
        setattr(module.get_submodule(path), own, buffer.clone())
    return module


def check_norm(place: str, norm: str) -> None:
    """Raise `InputError` for a kind of normalization that does not exist."""
    one_of(place, norm, ("none", "batch", "group"))
