"""One hidden layer whose units vote with equal weights: the toy model of lazy and rich training."""

import math

import torch
from torch import Tensor, nn

from gentheory.errors import InputError
from gentheory.models.options import at_least_one
from gentheory.models.scaling import check, finished


class Bent(nn.Module):
    """h + ε h² / 2."""

    def __init__(self, curvature: float) -> None:
        super().__init__()
        self.curvature = curvature

    def forward(self, h: Tensor) -> Tensor:
        """[B, D] -> the same."""
        return h + self.curvature / 2 * h.square()

    def extra_repr(self) -> str:
        """ε."""
        return f"{self.curvature:g}"


class Vote(nn.Module):
    """The mean of the units."""

    def forward(self, h: Tensor) -> Tensor:
        """[B, D] -> [B, 1]."""
        return h.mean(1, keepdim=True)


def committee(
    *,
    shape: tuple[int, ...],
    num_classes: int,
    width: int = 500,
    curvature: float = 0.25,
    output_scale: float = 1.0,
    symmetrized: bool = False,
) -> nn.Sequential:
    """f(x) = (α / N) Σ_i φ(w_i·x) with φ(h) = h + ε h² / 2, N units, w_i from N(0, I); one output.

    α is `output_scale`, ε `curvature`; what comes after the hidden layer is fixed. `symmetrized`
    as in `mlp`. Its tangent kernel at the start is nearly linear where ε is small, and cannot tell
    the direction of `data.polynomial` (Kumar et al. 2023, arXiv 2310.06110).
    """
    at_least_one("committee.width", width)
    check("committee", "standard", output_scale, symmetrized)
    if not -math.inf < curvature < math.inf:
        raise InputError("committee.curvature", repr(curvature), "a finite number", "give one")
    if num_classes != 1:
        raise InputError(
            "model committee", f"{num_classes} outputs", "1: a real target", "use data 'polynomial'"
        )
    hidden = nn.Linear(math.prod(shape), width, bias=False)
    with torch.no_grad():
        nn.init.normal_(hidden.weight)
    net = nn.Sequential(nn.Flatten(), hidden, Bent(float(curvature)), Vote())
    return finished(net, output_scale, symmetrized)
