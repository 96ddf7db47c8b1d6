"""A module as one layer of a stack, put together the way its containers do it.

A linear layer of M models is one batched product where `vmap` over autograd passes over the same
numbers several times more. What is not known here runs as a whole by `vmap`: the same function.
"""

import math

from torch import nn

from gentheory.models.mlp import Residual
from gentheory.models.resnet import Shortcut
from gentheory.models.scaling import Scale, Symmetrized
from gentheory.models.tokens import MeanToken, Patches, Transposed
from gentheory.models.vit import FirstToken
from gentheory.training.convolution import Convolution, is_plain
from gentheory.training.layers import (
    ByExample,
    Chain,
    Layer,
    Linear,
    Mapped,
    ReLU,
    Reshaped,
    Sum,
    identity,
)
from gentheory.training.pooling import MaxPooling, MeanPooling

_BY_EXAMPLE = (
    *(nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Softplus),
    *(nn.AdaptiveAvgPool2d, Patches, MeanToken, FirstToken),
)
_FLATTEN = Reshaped(lambda x: x.flatten(2), lambda gradient, x: gradient.reshape(x.shape))
_TRANSPOSE = Reshaped(lambda x: x.transpose(2, 3), lambda gradient, x: gradient.transpose(2, 3))


def stacked(module: nn.Module) -> Layer:
    """For every module that `torch.func.vmap` can run."""
    named = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    paths = [path for path, _ in module.named_modules(remove_duplicate=False)]
    # A gradient is written once: a net that uses something twice goes as a whole.
    once = len(named) == len(list(module.parameters()))
    once = once and len(paths) == len(list(module.modules()))
    trained = all(parameter.requires_grad for parameter in module.parameters())
    return _layer(module, "") if once and trained else Mapped(module, "")


def _layer(module: nn.Module, path: str) -> Layer:
    return _known(module, path) or _container(module, path) or Mapped(module, path)


def _known(module: nn.Module, path: str) -> Layer | None:
    if _changed(module):
        return None
    if type(module) is nn.Linear:
        bias = None if module.bias is None else f"{path}bias"  # pyright: ignore[reportUnnecessaryComparison]
        return Linear(f"{path}weight", bias)
    if isinstance(module, nn.Conv2d) and is_plain(module):
        return Convolution.of(module, path)
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return _FLATTEN
    if type(module) is nn.AvgPool2d:
        return MeanPooling(module)
    if type(module) is nn.MaxPool2d and not module.return_indices:
        return MaxPooling(module)
    if type(module) is Scale:
        return Reshaped(module, lambda gradient, x: module.factor * gradient)
    if type(module) in _BY_EXAMPLE and not getattr(module, "inplace", False):
        return ByExample(module)
    if type(module) is nn.ReLU:
        return ReLU()
    return identity if type(module) is nn.Identity else None


def _container(module: nn.Module, path: str) -> Layer | None:
    """Of what consists of other modules in a way known here."""

    def part(name: str) -> Layer:
        return _layer(module.get_submodule(name), f"{path}{name}.")

    kind = type(module)
    if _changed(module):
        return None
    if kind is nn.Sequential:
        children = dict(module.named_children())
        layers = [part(name) for name in children]
        for before, (place, layer) in zip(layers, enumerate(layers[1:], 1), strict=False):
            if isinstance(layer, ReLU):
                layers[place] = ReLU(fresh=_is_fresh(before))
        return Chain.of(layers, [_trains(child) for child in children.values()])
    if kind is Residual:
        return Sum(identity, part("block"))
    if isinstance(module, Shortcut):
        same = (module.stride, module.new_channels) == (1, 0)
        return Sum(identity if same else ByExample(module.shortcut), part("block"))
    if kind is Symmetrized:
        return Sum(part("plus"), part("minus"), sign=-1, factor=1 / math.sqrt(2))
    if kind is Transposed:
        return Chain.of([_TRANSPOSE, part("net"), _TRANSPOSE], [False, True, False])
    return None


def _is_fresh(layer: Layer) -> bool:
    """Whether nobody else keeps what the layer puts out."""
    if isinstance(layer, Chain):
        return bool(layer.layers) and _is_fresh(layer.layers[-1])
    return isinstance(layer, Linear | Convolution | Sum)


def _changed(module: nn.Module) -> bool:
    """Whether something else than its class says what a call of the module does."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" in vars(module) or any(vars(module)[name] for name in hooks)


def _trains(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
