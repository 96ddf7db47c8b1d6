"""Ghost norms: inner products of per-example gradients that are never built.

For a linear layer ⟨g_i a_iᵀ, h_i a_iᵀ⟩ = (a_i·a_i)(g_i·h_i)  (Goodfellow 2015; with positions,
Σ_ts (a_t·a_s)(g_t·h_s), Li et al. 2021).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.factors.capture import Capture, Factor
from gentheory.factors.passes import output_captures, residual_captures
from gentheory.risk import EmpiricalRisk


def example_grams(captured: Capture) -> Float[Tensor, "B K K"]:
    """Inner products of each example's own K gradients over all parameters, in float64."""
    rest = captured.rest.double().movedim(0, 1)
    total = rest @ rest.mT
    for names in captured.same_gradients():
        factors = [captured.factors[name] for name in names]
        if factors[0].inputs.shape[2] == 1:  # one product of gradients serves weight and bias
            squares = [factor.inputs.square().sum((2, 3)) for factor in factors]
            lengths = torch.stack(squares).sum(0)
            total = total + _scaled_gram(factors[0].gradients[:, :, :, 0], lengths).double()
        else:
            total = total + sum(factor_gram(factor).double() for factor in factors)
    return total


def gradient_norms(risk: EmpiricalRisk) -> Float[Tensor, " N"]:
    """Squared norms |∇loss_i|² (weight decay left out) in float64; one backward pass a batch."""
    grams = [example_grams(captured)[:, 0, 0] for _, captured in residual_captures(risk)]
    return torch.cat(grams)


def jacobian_norms(risk: EmpiricalRisk) -> Float[Tensor, " N"]:
    """Squared Frobenius norms |∂f_i/∂θ|² in float64; as many backward passes as outputs."""
    grams = [example_grams(captured) for _, captured in output_captures(risk)]
    return torch.cat([gram.diagonal(dim1=1, dim2=2).sum(1) for gram in grams])


def factor_gram(factor: Factor) -> Float[Tensor, "B K K"]:
    """Inner products of each example's K gradients in one parameter."""
    a, g = factor.inputs, factor.gradients
    positions, features, outputs = a.shape[2], a.shape[3], g.shape[4]
    if positions == 1:
        return _scaled_gram(g[:, :, :, 0], a.square().sum((2, 3)))
    if positions * (features + outputs) < features * outputs:
        inner = torch.einsum("lbtd,lbsd->lbts", a, a)
        return torch.einsum("lbts,lkbto,ljbso->bkj", inner, g, g)
    return _own_products(factor.dense())  # the parameter is smaller than its positions' products


def factor_norms(factor: Factor) -> Float[Tensor, "K B"]:
    """Squared lengths of each example's K gradients in one parameter."""
    a, g = factor.inputs, factor.gradients
    positions, features, outputs = a.shape[2], a.shape[3], g.shape[4]
    if positions == 1:
        return torch.einsum("lkbo,lb->kb", g[:, :, :, 0].square(), a.square().sum((2, 3)))
    if positions * (features + outputs) < features * outputs:
        return torch.stack([((a @ a.mT) * (own @ own.mT)).sum((0, 2, 3)) for own in g.unbind(1)])
    rows = (Factor(a, own[:, None]).dense()[0] for own in g.unbind(1))
    return torch.stack([row.square().sum(-1) for row in rows])


def _scaled_gram(
    g: Float[Tensor, "L K B C"], lengths: Float[Tensor, "L B"]
) -> Float[Tensor, "B K K"]:
    parts = (
        scale[:, None, None] * _own_products(part) for part, scale in zip(g, lengths, strict=True)
    )
    return torch.stack(list(parts)).sum(0) if len(g) > 1 else next(parts)


def _own_products(rows: Float[Tensor, "K B P"]) -> Float[Tensor, "B K K"]:
    if len(rows) == 1:  # batched products of one row each are slow
        return rows.square().sum(-1).T[:, :, None]
    return torch.einsum("kbp,jbp->bkj", rows, rows)
