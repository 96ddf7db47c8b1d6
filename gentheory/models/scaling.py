"""How a network's size enters its function: parametrization, output scale, centring.

With the NTK parametrization (Jacot et al. 2018) the tangent kernel keeps its size as the width
grows; the output scale α moves training between kernel regression (large) and feature learning
(small; Chizat et al. 2019), and centring takes the random outputs at initialization away, which
α would blow up.
"""

import copy
import math
from typing import Literal

from torch import Tensor, nn

from gentheory.errors import InputError

Parametrization = Literal["standard", "ntk"]

BIAS_FACTOR = 0.1
"""β of the NTK parametrization, as in Jacot et al. 2018."""


class Scale(nn.Module):
    """factor · x."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, ...]."""
        return self.factor * x

    def extra_repr(self) -> str:
        """The factor."""
        return f"{self.factor:g}"


class Symmetrized(nn.Module):
    """(f(x; θ_a) − f(x; θ_b)) / √2 with θ_b = θ_a at the start: 0 there, with f's tangent kernel.

    Half of the parameters each. Where f − f₀ would need f₀ kept beside the parameters, this net
    has nothing but parameters, and a stack of such nets trains as any other. Terms of second
    order in θ − θ₀ cancel, so that it leaves its linearization later than f − f₀ would.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.plus, self.minus = net, copy.deepcopy(net)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, C]."""
        return (self.plus(x) - self.minus(x)) / math.sqrt(2)


def parametrized(
    layer: nn.Linear | nn.Conv2d, parametrization: Parametrization, gain: float | None = None
) -> nn.Module:
    """The layer as it is, or as γ W x / √fan_in + β b with W and b from N(0, 1).

    Without a `gain` γ is 1, and the layer as it is has PyTorch's own weights, which shrink what
    passes through many layers. With one the standard weights are from N(0, γ² / fan_in), with
    biases of 0: γ = √2 keeps the size of what passes through ReLUs (He et al. 2015).
    """
    fan_in = layer.weight[0].numel()
    if parametrization == "standard":
        if gain is not None:
            nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_in))
            if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                nn.init.zeros_(layer.bias)
        return layer
    factor = (1.0 if gain is None else gain) / math.sqrt(fan_in)
    nn.init.normal_(layer.weight)
    if layer.bias is None:  # pyright: ignore[reportUnnecessaryComparison]
        return nn.Sequential(Scale(factor), layer)
    nn.init.normal_(layer.bias)
    # A plain layer between two factors, so that whatever knows plain layers knows this one.
    return nn.Sequential(Scale(factor / BIAS_FACTOR), layer, Scale(BIAS_FACTOR))


def relu_gain(height: int, width: int, stride: int = 1) -> float:
    """√2, more for a convolution 3×3 whose kernel is often over the edge of so small an image.

    Padding gives zeros: on one pixel a kernel meets one of its nine inputs. √(2 · 9 / met) with
    the mean number met keeps the mean square of what passes through convolutions and ReLUs.
    """
    met = 1.0
    for size in (height, width):
        centres = range(0, size, stride)
        met *= sum(min(size, at + 2) - max(0, at - 1) for at in centres) / len(centres)
    return math.sqrt(2 * 9 / met)


def finished(net: nn.Sequential, output_scale: float, symmetrized: bool) -> nn.Sequential:
    """The net, symmetrized if asked for, times α."""
    net = nn.Sequential(Symmetrized(net)) if symmetrized else net
    return net if output_scale == 1 else net.append(Scale(float(output_scale)))


def check(place: str, parametrization: str, output_scale: float, symmetrized: bool) -> None:
    """Raise `InputError` for options that a study's file may hold and no net can have."""
    if parametrization not in ("standard", "ntk"):
        raise InputError(
            f"{place}.parametrization", repr(parametrization), "'standard' or 'ntk'", "choose one"
        )
    number = isinstance(output_scale, int | float) and not isinstance(output_scale, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not number or not 0 < output_scale < math.inf:
        raise InputError(
            f"{place}.output_scale", repr(output_scale), "a number above 0", "give such a number"
        )
    if not isinstance(symmetrized, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"{place}.symmetrized", repr(symmetrized), "true or false", "give one of the two"
        )
