"""Convolutions of a stack."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gentheory.training.layers import Pullback, Tensors

_LARGE = 2**16
"""Input numbers of one model from which on a CPU takes the models' convolutions one by one.

As groups of one convolution, as `vmap` has them, large ones take two to four times as long.
"""


def is_plain(module: nn.Module) -> bool:
    """Whether this is a convolution of all channels, padded with zeros."""
    return (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


@dataclass(frozen=True)
class Convolution:
    """W * x + b in two dimensions."""

    weight: str
    bias: str | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @classmethod
    def of(cls, module: nn.Conv2d, path: str) -> "Convolution":
        """Of a convolution that `is_plain`, whose parameters begin with `path`."""
        assert not isinstance(module.padding, str)
        bias = None if module.bias is None else f"{path}bias"  # pyright: ignore[reportUnnecessaryComparison]
        return cls(f"{path}weight", bias, module.stride, module.padding, module.dilation)

    def __call__(
        self, tensors: Tensors, statistics: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, Pullback]:
        """[M, B, C, height, width] -> [M, B, O, height, width]."""
        weight = tensors[self.weight]
        bias = None if self.bias is None else tensors[self.bias]
        if x.device.type == "cpu" and x[0].numel() >= _LARGE:
            return self._one_by_one(weight, bias, x)
        return self._grouped(weight, bias, x)

    def _one_by_one(
        self, weight: Tensor, bias: Tensor | None, x: Tensor
    ) -> tuple[Tensor, Pullback]:
        biases = [None] * len(x) if bias is None else bias
        outputs = torch.stack([self._run(*each, 1) for each in zip(x, weight, biases, strict=True)])

        def pullback(gradient: Tensor, into: Tensors, wanted: bool) -> Tensor | None:
            whole = torch.empty_like(x) if wanted else None
            for m, (own, inputs, kernel) in enumerate(zip(gradient, x, weight, strict=True)):
                found = self._back(own, inputs, kernel, 1, wanted)
                into[self.weight][m] = found[1]
                if self.bias is not None:
                    into[self.bias][m] = found[2]
                if whole is not None:
                    whole[m] = found[0]
            return whole

        return outputs, pullback

    def _grouped(self, weight: Tensor, bias: Tensor | None, x: Tensor) -> tuple[Tensor, Pullback]:
        count, kernels = len(x), weight.flatten(0, 1)
        inputs = x.transpose(0, 1).flatten(1, 2)
        outputs = self._run(inputs, kernels, None if bias is None else bias.flatten(), count)

        def pullback(gradient: Tensor, into: Tensors, wanted: bool) -> Tensor | None:
            own = gradient.transpose(0, 1).flatten(1, 2)
            found = self._back(own, inputs, kernels, count, wanted)
            into[self.weight].copy_(found[1].unflatten(0, (count, -1)))
            if self.bias is not None:
                into[self.bias].copy_(found[2].unflatten(0, (count, -1)))
            return found[0].unflatten(1, (count, -1)).transpose(0, 1) if wanted else None

        return outputs.unflatten(1, (count, -1)).transpose(0, 1), pullback

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        return torch.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, groups)

    def _back(
        self, gradient: Tensor, x: Tensor, weight: Tensor, groups: int, wanted: bool
    ) -> tuple[Any, Tensor, Any]:
        """Gradients in inputs, weights and bias; None for inputs not wanted, and without a bias."""
        geometry = (list(self.stride), list(self.padding), list(self.dilation))
        shape, asked = [len(weight)], [wanted, True, self.bias is not None]
        return torch.ops.aten.convolution_backward(
            gradient, x, weight, shape, *geometry, False, [0, 0], groups, asked
        )
