"""Diagonals of curvature and gradient covariance out of layer factors, in any rotated basis.

For a linear layer Σ_i (g_i a_iᵀ)² is (G²)ᵀ A², one matrix product, whatever the number of examples;
rotating g and a first gives the diagonal in a Kronecker basis (George et al. 2018).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.factors.capture import Capture, Factor
from gentheory.factors.passes import moment_captures, residual_captures
from gentheory.middles import Curvature, Middle, middle_of
from gentheory.modes import Modes
from gentheory.params import Layout
from gentheory.risk import EmpiricalRisk

Rotation = Callable[[str, Factor], Factor]


@dataclass(frozen=True)
class Diagonals:
    """Of the data's part alone, without weight decay; float64."""

    curvature: Float[Tensor, " P"]
    covariance: Float[Tensor, " P"]
    gradient: Float[Tensor, " P"]

    def modes(self, risk: EmpiricalRisk, theta: Float[Tensor, " P"], *, centred: bool) -> Modes:
        """With the risk's weight decay; `theta` in the basis of the diagonals."""
        parts = (self.curvature, self.covariance, self.gradient, theta)
        return Modes.decayed(risk, *parts, centred=centred)


def diagonals(
    risk: EmpiricalRisk, middle: Middle, *, rotation: Rotation = lambda _, factor: factor
) -> Diagonals:
    """(1/N) Σ diag(J_iᵀ W_i J_i), (1/N) Σ g_i², and the mean gradient; exact, one pass.

    `rotation` turns each parameter's factors into the basis in which the diagonal is taken.
    """
    totals = torch.zeros(3, risk.num_params, dtype=torch.float64, device=risk.device)
    for signs, captured in moment_captures(risk, middle):
        turned = {name: rotation(name, factor) for name, factor in captured.factors.items()}
        parts = {name: _moments(factor, signs) for name, factor in turned.items()}
        totals += placed(risk.layout, parts, rest_moments(captured, signs))
    return Diagonals(*(totals / risk.num_examples))


def own_diagonals(risk: EmpiricalRisk, curvature: Curvature, generator: Generator) -> Diagonals:
    """`diagonals` of this curvature, not turned; computed once a risk, unless it is sampled."""

    def compute() -> Diagonals:
        return diagonals(risk, middle_of(risk, curvature, generator))

    sampled = curvature == "sampled_fisher"
    return compute() if sampled else risk.once(("diagonals", curvature), compute)


def known_diagonals(risk: EmpiricalRisk, curvature: Curvature) -> Diagonals | None:
    """`own_diagonals` if somebody has asked for them already."""
    return risk.known(("diagonals", curvature))


def gradient_moments(risk: EmpiricalRisk) -> Float[Tensor, "2 P"]:
    """(1/N) Σ g_i² and the mean gradient; exact, in float64, one backward pass a batch."""
    totals = torch.zeros(2, risk.num_params, dtype=torch.float64, device=risk.device)
    for _, captured in residual_captures(risk):
        parts = {name: _own_moments(factor) for name, factor in captured.factors.items()}
        rest = captured.rest[0].double()
        totals += placed(risk.layout, parts, torch.stack([rest.square().sum(0), rest.sum(0)]))
    return totals / risk.num_examples


def placed(
    layout: Layout, parts: dict[str, Float[Tensor, "K p"]], rest: Float[Tensor, "K r"]
) -> Float[Tensor, "K P"]:
    """Rows over all parameters, from those of each factor and of all others in order."""
    total = rest.new_empty(len(rest), layout.size)
    start = 0
    for name, where in layout.slices.items():
        width = where.stop - where.start
        if name in parts:
            total[:, where] = parts[name].to(total)
        else:
            total[:, where] = rest[:, start : start + width]
            start += width
    return total


def _moments(factor: Factor, signs: Float[Tensor, "K B"]) -> Float[Tensor, "3 p"]:
    a, g = factor.inputs, factor.gradients
    weights = signs.to(g)
    if a.shape[2] > 1:
        return _dense_moments(factor, weights)
    curved = torch.einsum("lkbo,kb->lbo", g[:, :-1, :, 0].square(), weights[:-1])
    row = torch.einsum("lbo,lbd->lod", curved, a[:, :, 0].square()).flatten()
    return torch.cat([row[None].double(), _own_moments(Factor(a, g[:, -1:]))])


def _own_moments(factor: Factor) -> Float[Tensor, "2 p"]:
    """Sums over examples of the first cotangent's gradients: squared, and as they are."""
    if factor.inputs.shape[2] > 1:
        gradients = factor.dense()[0]
        return torch.stack([gradients.square().sum(0), gradients.sum(0)]).double()
    a, g = factor.inputs[:, :, 0], factor.gradients[:, 0, :, 0]
    rows = [
        torch.einsum("lbo,lbd->lod", g.square(), a.square()),
        torch.einsum("lbo,lbd->lod", g, a),
    ]
    return torch.stack([row.flatten() for row in rows]).double()


def _dense_moments(factor: Factor, weights: Float[Tensor, "K B"]) -> Float[Tensor, "3 p"]:
    """With several positions the gradient is a sum before it is squared."""
    curved = covariance = mean = torch.zeros((), dtype=torch.float64, device=weights.device)
    last = len(weights) - 1
    for k, weight in enumerate(weights):  # one cotangent at a time: gradients of all would not fit
        gradients = Factor(factor.inputs, factor.gradients[:, k : k + 1]).dense()[0]
        if k < last:
            curved = curved + (weight @ gradients.square()).double()
        else:
            covariance, mean = gradients.square().sum(0).double(), gradients.sum(0).double()
    return torch.stack([curved, covariance, mean])


def rest_moments(captured: Capture, signs: Float[Tensor, "K B"]) -> Float[Tensor, "3 r"]:
    """Sums over examples of what `diagonals` averages, for the parameters without factors."""
    rest = captured.rest.double()
    squares = rest.square()
    curved = torch.einsum("kbr,kb->r", squares[:-1], signs[:-1].to(rest))
    return torch.stack([curved, squares[-1].sum(0), rest[-1].sum(0)])
