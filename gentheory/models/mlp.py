"""Multilayer perceptrons and deep linear nets of any depth and width, with or without skips."""

from itertools import pairwise
from math import prod
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from gentheory.errors import InputError
from gentheory.models.norm import Norm, check_norm, normalized
from gentheory.models.options import at_least_one, one_of, yes_or_no
from gentheory.models.scaling import Parametrization, check, finished, parametrized

Activation = Literal["relu", "gelu", "tanh", "linear"]


class Residual(nn.Module):
    """x + block(x)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, ...]."""
        return x + self.block(x)


class Unit(nn.Module):
    """x / |x|, for each example; 0 stays 0."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> the same."""
        return F.normalize(x, dim=-1)


def mlp(
    *,
    shape: tuple[int, ...],
    num_classes: int,
    depth: int = 3,
    width: int = 10,
    activation: Activation = "relu",
    skip: bool = False,
    bias: bool = True,
    norm: Norm = "none",
    embedding: int | None = None,
    embedding_relu: bool = False,
    parametrization: Parametrization = "standard",
    output_scale: float = 1.0,
    symmetrized: bool = False,
) -> nn.Sequential:
    """`depth` linear layers, `width` units in each hidden one.

    `activation="linear"` gives a deep linear net. `skip` adds each hidden layer's input to its
    output wherever both have `width` features, that is from the second hidden layer on. `norm` is
    what stands between a hidden layer, then without bias, and its activation: "none", "batch" or
    "group" (groups of 8 features). BatchNorm's running statistics are each model's own, in a stack
    too.

    With an `embedding` the outputs are as many features of unit length, not a logit a class, for a
    loss of such as the supervised contrastive one; with `embedding_relu` none of them is negative.
    They are what the last module, an identity, is given: measures of layers find them by its name.

    `parametrization="standard"` is PyTorch's own layer and initialization; with "ntk" a layer is
    W x / √fan_in + 0.1 b, W and b from N(0, 1) (Jacot et al. 2018). `output_scale` is α, by which
    the outputs are multiplied. `symmetrized` trains (f(θ_a) − f(θ_b)) / √2 from θ_a = θ_b: the
    outputs start at 0, with f's tangent kernel, at twice the parameters (Chizat et al. 2019).
    Normalization stays as it is.
    """
    at_least_one("mlp.depth", depth)
    at_least_one("mlp.width", width)
    yes_or_no("mlp.skip", skip)
    yes_or_no("mlp.bias", bias)
    yes_or_no("mlp.embedding_relu", embedding_relu)
    check_norm("mlp.norm", norm)
    if embedding is not None:
        at_least_one("mlp.embedding", embedding)
    elif embedding_relu:
        expected = "an embedding, of which it makes the features positive"
        raise InputError("mlp.embedding_relu", "true", expected, "give mlp.embedding, or drop it")
    check("mlp", parametrization, output_scale, symmetrized)
    kinds = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "linear": nn.Identity}
    one_of("mlp.activation", activation, kinds)
    widths = [prod(shape), *[width] * (depth - 1)]
    layers: list[nn.Module] = []
    biased = bias and norm == "none"
    for index, (incoming, outgoing) in enumerate(pairwise(widths)):
        layer = parametrized(nn.Linear(incoming, outgoing, bias=biased), parametrization)
        block = normalized(layer, outgoing, norm).append(kinds[activation]())
        layers.append(Residual(block) if skip and index > 0 else block)
    last = nn.Linear(widths[-1], num_classes if embedding is None else embedding, bias=bias)
    net = nn.Sequential(nn.Flatten(), *layers, parametrized(last, parametrization))
    if embedding is not None:
        net.extend([nn.ReLU() if embedding_relu else nn.Identity(), Unit(), nn.Identity()])
    return finished(net, output_scale, symmetrized)
