"""Curvature of one weight matrix, each of its neurons rescaled by its own weights."""

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.factors.capture import Capture, Factor
from gentheory.factors.ghost import factor_gram
from gentheory.factors.passes import output_captures
from gentheory.params import Layout
from gentheory.risk import EmpiricalRisk


def neuron_trace(risk: EmpiricalRisk, name: str) -> float:
    """Σ_ss' ⟨w_s, w_s'⟩ tr G_ss' for the rows w_s of a weight, G the GGN without weight decay.

    It is (1/N) Σ_i Σ_cd Λ_icd ⟨WᵀJ_ic, WᵀJ_id⟩, J_ic the gradient of output c in W; for a layer
    known to the factors W is applied to the gradient at the neurons: a ghost norm.
    """
    weight = risk.layout.unflatten(risk.theta)[name].flatten(1)
    total = torch.zeros((), dtype=torch.float64, device=risk.device)
    for (_, targets), captured in output_captures(risk):
        middle = risk.loss.hessian(captured.outputs, targets).double()
        total += (middle * _gram(risk.layout, captured, name, weight)).sum()
    return total.item() / risk.num_examples


def _gram(
    layout: Layout, captured: Capture, name: str, weight: Float[Tensor, "s m"]
) -> Float[Tensor, "B K K"]:
    """⟨WᵀJ_c, WᵀJ_d⟩ of each example."""
    if name in captured.factors:
        return factor_gram(_applied(captured.factors[name], weight)).double()
    others = [other for other in layout.names if other not in captured.factors]
    widths = [layout.slices[other].stop - layout.slices[other].start for other in others]
    rows = dict(zip(others, captured.rest.split(widths, dim=2), strict=True))[name]
    turned = torch.einsum("sm,kbsj->bkmj", weight, rows.unflatten(2, weight.shape)).flatten(2)
    return (turned @ turned.mT).double()


def _applied(factor: Factor, weight: Float[Tensor, "s m"]) -> Factor:
    """Gradients at the neurons times their weights; groups become positions, for they add up."""
    groups = len(factor.inputs)
    weights = weight.unflatten(0, (groups, -1))
    turned = torch.einsum("lkbts,lsm->kbltm", factor.gradients, weights).flatten(2, 3)
    inputs = factor.inputs.movedim(0, 1).flatten(1, 2)
    return Factor(inputs[None], turned[None])
