"""Small networks without hidden batch state, built from a name and options."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gentheory.errors import InputError
from gentheory.models.cnn import cnn
from gentheory.models.mlp import mlp

__all__ = ["build", "cnn", "mlp"]

_BUILDERS = (mlp, cnn)


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
