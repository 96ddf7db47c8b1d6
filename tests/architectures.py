"""The architectures beyond `mlp` and `cnn` at tiny sizes, and images for them."""

import math
from typing import Any

import oracle
import torch
from torch import Tensor, nn

from gentheory import models
from gentheory.seeds import generator

SHAPE = (2, 8, 8)
IMAGES = torch.randn(4, *SHAPE, generator=generator("images"), dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1, 1])
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("resnet", {"width": 2}),
    "resnet group": ("resnet", {"width": 4, "norm": "group"}),
    "resnet without skips": ("resnet", {"width": 2, "skip": False}),
    "vgg": ("vgg", {"width": 2}),
    "vgg group": ("vgg", {"width": 4, "norm": "group", "depth": 11, "pool": "mean"}),
    "vit": ("vit", {"width": 6, "heads": 2, "depth": 1}),
    "vit token": ("vit", {"width": 4, "heads": 1, "depth": 2, "pool": "token"}),
    "mixer": ("mixer", {"width": 5, "depth": 2}),
}
NTK = {"parametrization": "ntk", "output_scale": 2.0, "symmetrized": True}


def build(name: str, options: dict[str, Any], seed: int = 0, **sizes: Any) -> nn.Sequential:
    described = {"shape": SHAPE, "num_classes": 3} | sizes
    net = models.build(name, seed=seed, options=options, **described)
    assert isinstance(net, nn.Sequential)
    return net.double()


def moved(net: nn.Module) -> nn.Module:
    """Elsewhere than at its start, where scales are 1, shifts 0 and symmetric halves agree."""
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.add_(0.1 * math.sin(number + 1))
    return net


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return oracle.relative_error(actual.detach(), expected.detach())
