"""Poolings of a stack, with their own backward passes: autograd's calls cost as much as these."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gentheory.training.layers import Pullback, Tensors, laid_out


@dataclass(frozen=True)
class MeanPooling:
    """`nn.AvgPool2d`."""

    module: nn.AvgPool2d

    def __call__(
        self, tensors: Tensors, statistics: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, Pullback]:
        """[M, B, C, height, width] -> the same with a smaller image."""
        images, own = x.flatten(0, 1), self.module
        rest = (own.ceil_mode, own.count_include_pad, own.divisor_override)

        def backwards(gradient: Tensor) -> Tensor:
            given = (gradient, images, *_geometry(own), *rest)
            return torch.ops.aten.avg_pool2d_backward(*given)

        return own(images).unflatten(0, x.shape[:2]), _pullback(x, backwards)


@dataclass(frozen=True)
class MaxPooling:
    """`nn.MaxPool2d`."""

    module: nn.MaxPool2d

    def __call__(
        self, tensors: Tensors, statistics: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, Pullback]:
        """[M, B, C, height, width] -> the same with a smaller image."""
        images, own = x.flatten(0, 1), self.module
        rest = (_pair(own.dilation), own.ceil_mode)
        outputs, places = torch.ops.aten.max_pool2d_with_indices(images, *_geometry(own), *rest)

        def backwards(gradient: Tensor) -> Tensor:
            given = (gradient, images, *_geometry(own), *rest, places)
            return torch.ops.aten.max_pool2d_with_indices_backward(*given)

        return outputs.unflatten(0, x.shape[:2]), _pullback(x, backwards)


def _pullback(x: Tensor, backwards: Callable[[Tensor], Tensor]) -> Pullback:
    """From a backward pass of images [M B, C, height, width], laid out as the inputs are."""

    def pullback(gradient: Tensor, into: Tensors, wanted: bool) -> Tensor | None:
        if not wanted:
            return None
        return laid_out(backwards(gradient.flatten(0, 1)).unflatten(0, x.shape[:2]), x)

    return pullback


def _geometry(module: nn.AvgPool2d | nn.MaxPool2d) -> tuple[list[int], list[int], list[int]]:
    """Kernel, stride and padding."""
    return _pair(module.kernel_size), _pair(module.stride), _pair(module.padding)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
