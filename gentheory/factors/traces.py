"""Exact traces of (1/N) Σ J_iᵀ W_i J_i and of C from ghost norms, parameter by parameter."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.factors.capture import Capture
from gentheory.factors.diagonal import known_diagonals
from gentheory.factors.ghost import factor_norms
from gentheory.factors.passes import moment_captures
from gentheory.middles import Curvature, Middle, middle_of
from gentheory.risk import EmpiricalRisk


def ggn_traces(risk: EmpiricalRisk) -> dict[str, Float[Tensor, ""]]:
    """Trace of the GGN's diagonal block of each parameter in float64, weight decay left out."""
    found = own_traces(risk, "ggn", Generator())
    return {name: pair[0] for name, pair in found.items()}


def own_traces(
    risk: EmpiricalRisk, curvature: Curvature, generator: Generator
) -> dict[str, Float[Tensor, " 2"]]:
    """`traces` of this curvature; computed once a risk, unless it is sampled.

    Where the diagonals are known they are summed: for a convolution a pass takes its time.
    """

    def compute() -> dict[str, Float[Tensor, " 2"]]:
        known = known_diagonals(risk, curvature)
        if known is None:
            return traces(risk, middle_of(risk, curvature, generator))
        both = torch.stack([known.curvature, known.covariance])
        return {name: both[:, where].sum(1) for name, where in risk.layout.slices.items()}

    sampled = curvature == "sampled_fisher"
    return compute() if sampled else risk.once(("traces", curvature), compute)


def traces(risk: EmpiricalRisk, middle: Middle) -> dict[str, Float[Tensor, " 2"]]:
    """Traces of each parameter's diagonal block of H and of C in float64, weight decay left out.

    One pass with a backward pass for each root of W_i and one for C; no Jacobian of parameters that
    a linear or convolutional layer owns.
    """
    totals = {
        name: torch.zeros(2, dtype=torch.float64, device=risk.device) for name in risk.layout.names
    }
    for signs, captured in moment_captures(risk, middle):
        for name, norms in _norms(risk, captured):
            totals[name] += torch.stack([(signs[:-1] * norms[:-1]).sum(), norms[-1].sum()])
    return {name: total / risk.num_examples for name, total in totals.items()}


def _norms(risk: EmpiricalRisk, captured: Capture) -> Iterator[tuple[str, Float[Tensor, "K B"]]]:
    for name, factor in captured.factors.items():
        yield name, factor_norms(factor).double()
    layout = risk.layout
    names = [name for name in layout.names if name not in captured.factors]
    sizes = [layout.slices[name].stop - layout.slices[name].start for name in names]
    for name, part in zip(names, captured.rest.split(sizes, dim=2), strict=True):
        yield name, part.double().square().sum(2)
