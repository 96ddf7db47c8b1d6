"""Exact traces of (1/N) Σ J_iᵀ W_i J_i and of C from ghost norms, parameter by parameter."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.factors.capture import Capture
from gentheory.factors.ghost import factor_gram
from gentheory.factors.passes import output_captures
from gentheory.middles import Curvature, Middle, middle_of
from gentheory.risk import EmpiricalRisk


def ggn_traces(risk: EmpiricalRisk) -> dict[str, Float[Tensor, ""]]:
    """Trace of the GGN's diagonal block of each parameter in float64, weight decay left out."""
    found = own_traces(risk, "ggn", Generator())
    return {name: pair[0] for name, pair in found.items()}


def own_traces(
    risk: EmpiricalRisk, curvature: Curvature, generator: Generator
) -> dict[str, Float[Tensor, " 2"]]:
    """`traces` of this curvature; computed once a risk, unless it is sampled."""

    def compute() -> dict[str, Float[Tensor, " 2"]]:
        return traces(risk, middle_of(risk, curvature, generator))

    sampled = curvature == "sampled_fisher"
    return compute() if sampled else risk.once(("traces", curvature), compute)


def traces(risk: EmpiricalRisk, middle: Middle) -> dict[str, Float[Tensor, " 2"]]:
    """Traces of each parameter's diagonal block of H and of C in float64, weight decay left out.

    One pass with as many backward passes as outputs; no Jacobian of parameters that a linear or
    convolutional layer owns.
    """
    totals = {
        name: torch.zeros(2, dtype=torch.float64, device=risk.device) for name in risk.layout.names
    }
    for batch, captured in output_captures(risk):
        r = risk.loss.gradient(captured.outputs, batch[1]).double()
        curved = middle(captured.outputs, batch).double()
        weights = torch.stack([curved, r[:, :, None] * r[:, None, :]])
        for name, gram in _grams(risk, captured):
            totals[name] += torch.einsum("mbcd,bcd->m", weights, gram)
    return {name: total / risk.num_examples for name, total in totals.items()}


def _grams(risk: EmpiricalRisk, captured: Capture) -> Iterator[tuple[str, Float[Tensor, "B K K"]]]:
    for name, factor in captured.factors.items():
        yield name, factor_gram(factor).double()
    layout = risk.layout
    names = [name for name in layout.names if name not in captured.factors]
    sizes = [layout.slices[name].stop - layout.slices[name].start for name in names]
    for name, part in zip(names, captured.rest.split(sizes, dim=2), strict=True):
        rows = part.double().movedim(0, 1)
        yield name, rows @ rows.mT
