"""Models of a stack one after the other, where that is faster than all at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

_LARGE = 2**13
"""Input numbers of one model from which on a CPU takes the models of a stack one by one."""


def faster_apart(module: nn.Module, inputs: Tensor) -> bool:
    """Whether one model after the other takes less time, by their inputs [M, B, ...].

    So it is for convolutions on a CPU but for the smallest. Those of many models are groups of one
    convolution, as under `vmap`, which take two to four times as long where they are large; and
    one model's numbers, forwards and then backwards, stay in the cache where a stack's do not.
    """
    filters = any(isinstance(part, nn.Conv2d) for part in module.modules())
    return filters and inputs.device.type == "cpu" and inputs[0].numel() >= _LARGE


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function of stacks of one model each, joined; all are trees of tensors [M, ...]."""
    count = len(tree_leaves(arguments)[0])
    found = [function(*tree_map(lambda t, m=m: t[m : m + 1], arguments)) for m in range(count)]
    return tree_map(lambda *parts: torch.cat(parts), *found)
