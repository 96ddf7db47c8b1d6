"""How the examples' gradients h_i lie around their mean h̄, out of 2 N numbers.

With |h_i|² and ⟨h_i, h̄⟩ for each example, mean and dispersion are known not only for all examples
but without any one of them: the jackknife costs no further pass.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.factors.forward import slopes
from gentheory.factors.ghost import gradient_norms
from gentheory.risk import EmpiricalRisk

Statistic = Callable[["Sums"], Tensor]


@dataclass(frozen=True)
class Sums:
    """Of n gradients; a batch of such sums where the tensors have an axis."""

    count: int
    mean_square: Tensor  # mean of |h_i|²
    square_of_mean: Tensor  # |h̄|²

    @property
    def variance(self) -> Tensor:
        """tr of the gradients' covariance, unbiased."""
        return (self.mean_square - self.square_of_mean) * self.count / (self.count - 1)

    @property
    def pairs(self) -> Tensor:
        """Mean of ⟨h_i, h_j⟩ over i ≠ j: unbiased for the square of the expected gradient."""
        return self.square_of_mean - self.variance / self.count


@dataclass(frozen=True)
class Dispersion:
    """Squared length of each gradient, and its product with the mean; float64."""

    squares: Float[Tensor, " N"]
    along: Float[Tensor, " N"]

    @classmethod
    def of(cls, risk: EmpiricalRisk) -> "Dispersion":
        """h_i = ∇loss_i, weight decay left out: two backward passes and a forward-mode one."""
        squares = risk.once("gradient norms", lambda: gradient_norms(risk))
        return cls(squares, slopes(risk, weighted_mean(risk, torch.ones_like(squares))))

    @classmethod
    def of_directions(cls, risk: EmpiricalRisk) -> "Dispersion":
        """h_i = ∇loss_i / |∇loss_i|, of the examples whose gradient is not zero."""
        squares = risk.once("gradient norms", lambda: gradient_norms(risk))
        known = squares > 0
        scale = torch.where(known, squares, 1.0).rsqrt() * known
        mean = weighted_mean(risk, scale) * len(squares) / known.sum().clamp(min=1)
        return cls(torch.ones_like(squares)[known], (scale * slopes(risk, mean))[known])

    @property
    def all(self) -> Sums:
        """Of all N."""
        return Sums(len(self.squares), self.squares.mean(), self.along.mean())

    @property
    def without_one(self) -> Sums:
        """Of N − 1, without each of them in turn: tensors [N]."""
        n, whole = len(self.squares), self.all
        mean_square = (n * whole.mean_square - self.squares) / (n - 1)
        square = n**2 * whole.square_of_mean - 2 * n * self.along + self.squares
        return Sums(n - 1, mean_square, square / (n - 1) ** 2)

    def jackknife(self, statistic: Statistic) -> tuple[float, float]:
        """The statistic of all examples, and its standard error over the draw of the examples."""
        n = len(self.squares)
        left_out = statistic(self.without_one)
        variance = (n - 1) / n * (left_out - left_out.mean()).square().sum()
        return statistic(self.all).item(), math.sqrt(variance.item())


def weighted_mean(risk: EmpiricalRisk, weights: Float[Tensor, " N"]) -> Float[Tensor, " P"]:
    """(1/N) Σ_i weight_i ∇loss_i in float64, without weight decay; one backward pass."""
    total = torch.zeros_like(risk.theta, dtype=torch.float64)
    start = 0
    for inputs, targets in risk.batches():
        own = weights[start : start + len(inputs), None]
        start += len(inputs)
        outputs, pull = torch.func.vjp(lambda at, x=inputs: risk.outputs(at, x), risk.theta)[:2]
        residuals = risk.loss.gradient(outputs.detach(), targets)
        total += pull((own * residuals).to(outputs))[0]
    return total / start
