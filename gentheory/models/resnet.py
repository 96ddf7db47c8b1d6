"""Residual networks for small images (He et al. 2016, section 4.2)."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from gentheory.errors import InputError
from gentheory.models.norm import Norm, check_norm, normalized
from gentheory.models.options import at_least_one, images, yes_or_no
from gentheory.models.scaling import (
    Parametrization,
    Scale,
    check,
    finished,
    parametrized,
    relu_gain,
)


class Shortcut(nn.Module):
    """shortcut(x) + block(x), where a block may halve the image and add channels.

    The shortcut has no parameters: every second pixel, and zeros in the new channels.
    """

    def __init__(self, block: nn.Module, stride: int, new_channels: int) -> None:
        super().__init__()
        self.block, self.stride, self.new_channels = block, stride, new_channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, height, width] -> [B, C + new, height / stride, width / stride]."""
        return self.shortcut(x) + self.block(x)

    def shortcut(self, x: Tensor) -> Tensor:
        """Of the same shapes."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, 0, self.new_channels))


def resnet(
    *,
    shape: tuple[int, ...],
    num_classes: int,
    depth: int = 8,
    width: int = 16,
    norm: Norm = "none",
    skip: bool = True,
    parametrization: Parametrization = "standard",
    output_scale: float = 1.0,
    symmetrized: bool = False,
) -> nn.Sequential:
    """A ResNet of `depth` 6n + 2 layers: ResNet-8, -14, -20, …, for images of any size.

    A convolution, three stages of n blocks with `width`, 2 `width` and 4 `width` channels, the
    mean over the pixels, a linear layer. A block is two convolutions 3×3, each with its
    normalization, and is added to its input, without parameters where the shape changes; the
    ReLUs stand after the first and after the sum. `skip=False` leaves the sums out.

    `norm` is "batch", "group" (groups of 8 channels) or "none"; without one the convolutions have
    biases, and each of the 3n blocks is divided by √(3n), which keeps the outputs and their
    gradients bounded at any depth (Hayou et al. 2021). Weights are from N(0, 2 / fan_in), the
    fan-in without padding (see `relu_gain`). BatchNorm's running statistics are each model's own,
    in a stack too. `parametrization`, `output_scale` and `symmetrized` are those of `mlp`, with
    the same gains in "ntk"; normalization stays as it is.
    """
    at_least_one("resnet.depth", depth)
    at_least_one("resnet.width", width)
    check_norm("resnet.norm", norm)
    yes_or_no("resnet.skip", skip)
    check("resnet", parametrization, output_scale, symmetrized)
    if depth < 8 or depth % 6 != 2:
        raise InputError("resnet.depth", f"{depth}", "6n + 2: 8, 14, 20, …", "choose such a number")
    channels, height, breadth = images("resnet", shape)

    def convolution(incoming: int, outgoing: int, stride: int = 1) -> nn.Sequential:
        nonlocal height, breadth
        layer = nn.Conv2d(incoming, outgoing, 3, stride, padding=1, bias=norm == "none")
        scaled = parametrized(layer, parametrization, relu_gain(height, breadth, stride))
        height, breadth = math.ceil(height / stride), math.ceil(breadth / stride)
        return normalized(scaled, outgoing, norm)

    blocks = depth // 6
    layers: list[nn.Module] = [convolution(channels, width), nn.ReLU()]
    incoming = width
    for index in range(3 * blocks):
        outgoing = width * 2 ** (index // blocks)
        stride = outgoing // incoming
        block = nn.Sequential(
            convolution(incoming, outgoing, stride), nn.ReLU(), convolution(outgoing, outgoing)
        )
        if skip and norm == "none":
            block.append(Scale(1 / math.sqrt(3 * blocks)))
        layers.append(Shortcut(block, stride, outgoing - incoming) if skip else block)
        layers.append(nn.ReLU())
        incoming = outgoing
    last = parametrized(nn.Linear(incoming, num_classes), parametrization)
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    return finished(net, output_scale, symmetrized)
