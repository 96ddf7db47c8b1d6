"""A small convolutional net."""

from typing import Literal

from torch import nn

from gentheory.models.norm import Norm, check_norm, normalized
from gentheory.models.options import at_least_one, images, one_of, yes_or_no
from gentheory.models.scaling import Parametrization, check, finished, parametrized


def cnn(
    *,
    shape: tuple[int, ...],
    num_classes: int,
    width: int = 8,
    depth: int = 2,
    down: Literal["pool", "stride"] = "pool",
    bias: bool = True,
    norm: Norm = "none",
    parametrization: Parametrization = "standard",
    output_scale: float = 1.0,
    symmetrized: bool = False,
) -> nn.Sequential:
    """`depth` times convolution 3×3, ReLU and 2×2 mean pooling, then one linear layer.

    The first convolution has `width` channels, each later one twice as many. Mean pooling keeps
    the net piecewise linear with fewer kinks than max pooling. An image that a pooling would
    shrink below 1×1 is pooled no further. `down="stride"` has convolutions of stride 2 in place
    of the pooling, at a third of the cost. `norm`, between a convolution, then without bias, and
    its ReLU, `parametrization`, `output_scale` and `symmetrized` are those of `mlp`; a
    convolution's fan-in is its input channels times nine.
    """
    at_least_one("cnn.width", width)
    at_least_one("cnn.depth", depth)
    yes_or_no("cnn.bias", bias)
    check_norm("cnn.norm", norm)
    check("cnn", parametrization, output_scale, symmetrized)
    one_of("cnn.down", down, ("pool", "stride"))
    channels, height, breadth = images("cnn", shape)
    layers: list[nn.Module] = []
    biased = bias and norm == "none"
    for index in range(depth):
        outgoing = width * 2**index
        stride = 2 if down == "stride" else 1
        convolution = nn.Conv2d(channels, outgoing, 3, stride, padding=1, bias=biased)
        scaled = parametrized(convolution, parametrization)
        layers += [*normalized(scaled, outgoing, norm), nn.ReLU()]
        if down == "stride":
            height, breadth = (height + 1) // 2, (breadth + 1) // 2
        elif min(height, breadth) >= 2:
            layers.append(nn.AvgPool2d(2))
            height, breadth = height // 2, breadth // 2
        channels = outgoing
    last = nn.Linear(channels * height * breadth, num_classes, bias=bias)
    net = nn.Sequential(*layers, nn.Flatten(), parametrized(last, parametrization))
    return finished(net, output_scale, symmetrized)
