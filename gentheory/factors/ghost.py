"""Ghost norms: inner products of per-example gradients that are never built.

For a linear layer ⟨g_i a_iᵀ, h_i a_iᵀ⟩ = (a_i·a_i)(g_i·h_i)  (Goodfellow 2015; with positions,
Σ_ts (a_t·a_s)(g_t·h_s), Li et al. 2021).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.factors.capture import Capture, Factor
from gentheory.factors.passes import output_captures, residual_captures
from gentheory.middles import Middle
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
    grams = [example_grams(captured)[:, 0, 0] for _, captured in residual_captures(risk)]
    return torch.cat(grams)


def jacobian_norms(risk: EmpiricalRisk) -> Float[Tensor, " N"]:
    """Squared Frobenius norms |∂f_i/∂θ|² in float64; as many backward passes as outputs."""
    grams = [example_grams(captured) for _, captured in output_captures(risk)]
    return torch.cat([gram.diagonal(dim1=1, dim2=2).sum(1) for gram in grams])


def traces(risk: EmpiricalRisk, middle: Middle) -> tuple[float, float]:
    """Exact tr H with the weight decay's ridge, and tr C of the data's part."""
    total = torch.zeros(2, dtype=torch.float64, device=risk.device)
    for batch, captured in output_captures(risk):
        gram = example_grams(captured)
        r = risk.loss.gradient(captured.outputs, batch[1]).double()
        total[0] += (middle(captured.outputs, batch).double() * gram).sum()
        total[1] += torch.einsum("bc,bcd,bd->", r, gram, r)
    trace_h, trace_c = (total / risk.num_examples).tolist()
    return trace_h + risk.weight_decay * risk.num_params, trace_c


def factor_gram(factor: Factor) -> Float[Tensor, "B K K"]:
    """Inner products of each example's K gradients in one parameter."""
    a, g = factor.inputs, factor.gradients
    positions, features, outputs = a.shape[2], a.shape[3], g.shape[4]
    if positions * (features + outputs) < features * outputs or positions == 1:
        inner = torch.einsum("lbtd,lbsd->lbts", a, a)
        return torch.einsum("lbts,lkbto,ljbso->bkj", inner, g, g)
    dense = factor.dense()  # the parameter is smaller than its positions' products
    return torch.einsum("kbp,jbp->bkj", dense, dense)
