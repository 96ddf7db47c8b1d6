"""Ghost norms: inner products of per-example gradients that are never built.

For a linear layer ⟨g_i a_iᵀ, h_i a_iᵀ⟩ = (a_i·a_i)(g_i·h_i)  (Goodfellow 2015; with positions,
Σ_ts (a_t·a_s)(g_t·h_s), Li et al. 2021).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.factors.capture import Capture, Factor, capture, explain
from gentheory.risk import EmpiricalRisk


def example_grams(captured: Capture) -> Float[Tensor, "B K K"]:
    """Inner products of each example's own K gradients over all parameters, in float64."""
    rest = captured.rest.double().movedim(0, 1)
    total = rest @ rest.mT
    for factor in captured.factors.values():
        total = total + factor_gram(factor).double()
    return total


def gradient_norms(risk: EmpiricalRisk) -> Float[Tensor, " N"]:
    """Squared norms |∇loss_i|² (weight decay left out) in float64; one backward pass a batch."""
    norms: list[Tensor] = []
    explained: frozenset[str] | None = None
    for inputs, targets in risk.batches():
        if explained is None:
            explained = explain(risk, inputs)
        with torch.no_grad():
            outputs = risk.outputs(risk.theta, inputs)
            residuals = risk.loss.gradient(outputs, targets).to(outputs.dtype)
        captured = capture(risk, inputs, residuals[None], explained=explained)
        norms.append(example_grams(captured)[:, 0, 0])
    return torch.cat(norms)


def factor_gram(factor: Factor) -> Float[Tensor, "B K K"]:
    """Inner products of each example's K gradients in one parameter."""
    a, g = factor.inputs, factor.gradients
    positions, features, outputs = a.shape[2], a.shape[3], g.shape[4]
    if positions * (features + outputs) < features * outputs or positions == 1:
        inner = torch.einsum("lbtd,lbsd->lbts", a, a)
        return torch.einsum("lbts,lkbto,ljbso->bkj", inner, g, g)
    dense = factor.dense()  # the parameter is smaller than its positions' products
    return torch.einsum("kbp,jbp->bkj", dense, dense)
