"""VGG networks (Simonyan and Zisserman 2015), for images of any size."""

import math
from typing import Literal

from torch import nn

from gentheory.models.norm import Norm, check_norm, normalized
from gentheory.models.options import at_least_one, images, one_of
from gentheory.models.scaling import Parametrization, check, finished, parametrized, relu_gain

_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions before each of the five poolings, by depth."""


def vgg(
    *,
    shape: tuple[int, ...],
    num_classes: int,
    depth: Literal[11, 13, 16, 19] = 16,
    width: int = 64,
    hidden: int | None = None,
    norm: Norm = "none",
    pool: Literal["max", "mean"] = "max",
    parametrization: Parametrization = "standard",
    output_scale: float = 1.0,
    symmetrized: bool = False,
) -> nn.Sequential:
    """VGG-`depth`: convolutions 3×3 in five stages, each followed by a 2×2 pooling; three linear.

    The stages have `width` times 1, 2, 4, 8 and 8 channels, the two hidden linear layers `hidden`
    units, 8 `width` unless given. Images of 224×224 with `hidden=4096` give the original, without
    its dropout. A pooling that would shrink the image below 1×1 is left out. `pool="mean"` has
    fewer kinks than the original's "max".

    `norm` is "none", "batch" or "group" (groups of 8 channels). Weights are from N(0, 2 / fan_in),
    the fan-in without padding (see `relu_gain`), since VGG-16 would not start to train with what
    passes shrinking; the last layer's are PyTorch's own. BatchNorm's running statistics are each
    model's own, in a stack too. `parametrization`, `output_scale` and `symmetrized` are those of
    `mlp`, with the same gains in "ntk"; normalization stays as it is.
    """
    one_of("vgg.depth", depth, _STAGES)
    at_least_one("vgg.width", width)
    hidden = 8 * width if hidden is None else hidden
    at_least_one("vgg.hidden", hidden)
    check_norm("vgg.norm", norm)
    one_of("vgg.pool", pool, ("max", "mean"))
    check("vgg", parametrization, output_scale, symmetrized)
    channels, height, breadth = images("vgg", shape)
    layers: list[nn.Module] = []
    for stage, convolutions in enumerate(_STAGES[depth]):
        outgoing = width * 2 ** min(stage, 3)
        for _ in range(convolutions):
            layer = nn.Conv2d(channels, outgoing, 3, padding=1, bias=norm == "none")
            scaled = parametrized(layer, parametrization, relu_gain(height, breadth))
            layers.append(normalized(scaled, outgoing, norm))
            layers.append(nn.ReLU())
            channels = outgoing
        if min(height, breadth) >= 2:
            layers.append(nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2))
            height, breadth = height // 2, breadth // 2
    layers.append(nn.Flatten())
    features = channels * height * breadth
    for incoming in (features, hidden):
        layer = nn.Linear(incoming, hidden)
        layers += [parametrized(layer, parametrization, math.sqrt(2)), nn.ReLU()]
    layers.append(parametrized(nn.Linear(hidden, num_classes), parametrization))
    return finished(nn.Sequential(*layers), output_scale, symmetrized)
