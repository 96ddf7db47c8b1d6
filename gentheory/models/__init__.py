"""Networks for small inputs, built from a name and options.

The twelve architectures of the TIC study and more, as a study's file has them; sizes are free:

    {label = "2-NN wide", model = "mlp", options = {depth = 2, width = 1000}}
    {label = "3-NN", model = "mlp", options = {depth = 3}}
    {label = "3-NN skip", model = "mlp", options = {depth = 3, skip = true}}
    {label = "3-LNN", model = "mlp", options = {depth = 3, activation = "linear"}}
    {label = "3-LNN skip", model = "mlp", options = {depth = 3, activation = "linear", skip = true}}
    {label = "6-NN", model = "mlp", options = {depth = 6}}
    {label = "6-NN skip", model = "mlp", options = {depth = 6, skip = true}}
    {label = "6-LNN", model = "mlp", options = {depth = 6, activation = "linear"}}
    {label = "6-LNN skip", model = "mlp", options = {depth = 6, activation = "linear", skip = true}}
    {label = "SimpleCNN", model = "cnn", options = {depth = 2}}
    {label = "ResNet-8", model = "resnet", options = {depth = 8}}
    {label = "VGG-16", model = "vgg", options = {depth = 16}}

and beyond the paper:

    {label = "ResNet-20 BatchNorm", model = "resnet", options = {depth = 20, norm = "batch"}}
    {label = "ResNet-20 GroupNorm", model = "resnet", options = {depth = 20, norm = "group"}}
    {label = "ViT", model = "vit", options = {depth = 4, width = 64}}
    {label = "MLP-Mixer", model = "mixer", options = {depth = 4, width = 64}}
    {label = "committee", model = "committee", options = {width = 500, output_scale = 10.0}}
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gentheory.errors import InputError
from gentheory.models.cnn import cnn
from gentheory.models.committee import committee
from gentheory.models.mixer import mixer
from gentheory.models.mlp import mlp
from gentheory.models.resnet import resnet
from gentheory.models.vgg import vgg
from gentheory.models.vit import vit

__all__ = ["build", "cnn", "committee", "mixer", "mlp", "resnet", "vgg", "vit"]

_BUILDERS = (mlp, cnn, resnet, vgg, vit, mixer, committee)


def build(
    name: str,
    *,
    shape: tuple[int, ...],
    num_classes: int,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The network of this name for inputs of this shape (without the batch axis).

    With a `seed` the initialization depends on it alone, and the global generator is left as it
    was. Raises `InputError` for an unknown name, an unknown option or a value out of range.
    """
    known = {builder.__name__: builder for builder in _BUILDERS}
    if name not in known:
        raise InputError("model", repr(name), f"one of {', '.join(known)}", "choose one of these")
    allowed = [p for p in inspect.signature(known[name]).parameters if p not in _GIVEN]
    for option in options or {}:
        if option not in allowed:
            raise InputError(
                f"model {name}", f"option {option!r}", f"one of {', '.join(allowed)}", "correct it"
            )
    # nn.Module's initializers draw from the global generator: fork it, so that nobody notices.
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        return known[name](shape=shape, num_classes=num_classes, **(options or {}))


_GIVEN = ("shape", "num_classes")
