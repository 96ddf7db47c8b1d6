"""A small convolutional net without batch normalization."""

from torch import nn

from gentheory.errors import InputError
from gentheory.models.mlp import at_least_one, yes_or_no


def cnn(
    *, shape: tuple[int, ...], num_classes: int, width: int = 8, depth: int = 2, bias: bool = True
) -> nn.Sequential:
    """`depth` times convolution 3×3, ReLU and 2×2 mean pooling, then one linear layer.

    The first convolution has `width` channels, each later one twice as many. Mean pooling keeps
    the net piecewise linear with fewer kinks than max pooling. An image that a pooling would
    shrink below 1×1 is pooled no further.
    """
    at_least_one("cnn.width", width)
    at_least_one("cnn.depth", depth)
    yes_or_no("cnn.bias", bias)
    if len(shape) != 3:
        raise InputError(
            "cnn", f"inputs of shape {shape}", "images (channels, height, width)", "use model 'mlp'"
        )
    channels, height, breadth = shape
    layers: list[nn.Module] = []
    for index in range(depth):
        outgoing = width * 2**index
        layers += [nn.Conv2d(channels, outgoing, 3, padding=1, bias=bias), nn.ReLU()]
        if min(height, breadth) >= 2:
            layers.append(nn.AvgPool2d(2))
            height, breadth = height // 2, breadth // 2
        channels = outgoing
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(channels * height * breadth, num_classes, bias=bias)
    )
