"""Models of a stack one after the other, where that is faster than all at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

_LARGE = 2**17
"""Numbers that one model's first convolution puts out, from which on models go one by one.

Measured with nets of 8 channels: a stack takes half the time at 50,000 and as long at 100,000.
"""


def faster_apart(module: nn.Module, inputs: Tensor) -> bool:
    """Whether one model after the other takes less time, by their inputs [M, B, ...].

    So it is on a CPU where there are convolutions of images that are not small. Those of many
    models are groups of one convolution, as under `vmap`, for which there are no fast kernels; and
    one model's numbers, forwards and then backwards, stay in the cache where a stack's do not.
    """
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    if first is None or inputs.device.type != "cpu" or inputs.dim() != 5:
        return False
    pixels = inputs[0, :, 0].numel() // (first.stride[0] * first.stride[1])
    return pixels * first.out_channels >= _LARGE


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function of stacks of one model each, joined; all are trees of tensors [M, ...]."""
    count = len(tree_leaves(arguments)[0])
    found = [function(*tree_map(lambda t, m=m: t[m : m + 1], arguments)) for m in range(count)]
    return tree_map(lambda *parts: torch.cat(parts), *found)
