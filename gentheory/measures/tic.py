"""Takeuchi information criterion: the predicted gap tr(H⁻¹ C) / N  (Takeuchi 1976).

H is the curvature of the risk at the trained parameters, C the second moment of the examples'
gradients; both include the risk's weight decay. The value is the predicted test loss minus
training loss (Thomas et al. 2020); `stats["raw_trace"]` is tr(H⁻¹ C) itself. It rests on a
minimum of the risk and on a curvature that is not singular: `damping` is added to H, relative to
its largest eigenvalue, and the value depends on it, so `stats` holds the slope in its logarithm;
without damping, directions whose curvature is below rounding are left out (pseudo-inverse).
`Newton decrement` ḡᵀ(H + λ)⁻¹ḡ / 2 is what the training loss would still fall by: where it is
above the predicted gap, the parameters are too far from a minimum, and there is a warning.

Curvatures: "ggn" (default), "fisher" (targets expected under the model), "sampled_fisher" (one
target drawn per example), "hessian" (negative eigenvalues by their size, never a signed inverse).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.curvature import hessian
from gentheory.curvature.moments import (
    Curvature,
    dense_moments,
    diagonal_moments,
    middle_of,
)
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.factors.capture import output_captures
from gentheory.factors.ghost import example_grams
from gentheory.linalg import hutchinson
from gentheory.risk import EmpiricalRisk

__all__ = ["diagonal", "exact", "trace_ratio"]


def exact(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    centred: bool = False,
    damping: float = 1e-3,
    absolute_damping: float | None = None,
    max_params: int = 5000,
    generator: Generator,
) -> Estimate:
    """tr((H + λI)⁻¹ C) / N by an eigendecomposition of H in float64; P³ operations.

    `stderr` is 0: the value is exact for the data handed in, and says nothing of their draw;
    nan for "sampled_fisher", whose draw of targets is not repeated. Refused above `max_params`.
    """
    risk = checkpoint.risk
    if risk.num_params > max_params:
        gibibytes = 6 * 8 * risk.num_params**2 / 2**30
        raise InputError(
            "tic.exact",
            f"{risk.num_params} parameters, which take about {gibibytes:.1f} GiB",
            f"at most max_params = {max_params}",
            "use tic.diagonal or tic.trace_ratio, or raise max_params",
        )
    moments = dense_moments(risk, curvature, centred=centred, generator=generator)
    values, vectors = torch.linalg.eigh(moments.curvature)
    modes = _Modes(
        values,
        (vectors * (moments.covariance @ vectors)).sum(0),
        vectors.T @ moments.mean_gradient,
    )
    return _predicted_gap(risk, modes, curvature, damping, absolute_damping)


def diagonal(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    centred: bool = False,
    damping: float = 1e-3,
    absolute_damping: float | None = None,
    generator: Generator,
) -> Estimate:
    """Σ_p C_pp / (H_pp + λ) / N, with the exact diagonals; λ is relative to the largest H_pp.

    `stderr` as in `exact`. With "hessian" it takes P products.
    """
    risk = checkpoint.risk
    moments = diagonal_moments(risk, curvature, centred=centred, generator=generator)
    modes = _Modes(moments.curvature, moments.covariance, moments.mean_gradient)
    return _predicted_gap(risk, modes, curvature, damping, absolute_damping)


def trace_ratio(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    centred: bool = False,
    num_probes: int = 64,
    generator: Generator,
) -> Estimate:
    """tr C / tr H / N, a lower bound of the undamped diagonal; no inverse and no damping.

    Both traces come from ghost norms and are exact, `stderr` is 0; nan for "sampled_fisher". For
    "hessian" tr H is Hutchinson's with `num_probes`, and `stderr` covers their draw (to first
    order). Refused where tr H is not positive.
    """
    risk = checkpoint.risk
    wanted = "ggn" if curvature == "hessian" else curvature
    trace_h, trace_c = _traces(risk, wanted, generator)
    error = torch.nan if curvature == "sampled_fisher" else 0.0
    if curvature == "hessian":
        samples = hutchinson(hessian(risk), num_probes=num_probes, generator=generator)
        sampled = Estimate.from_samples(samples)
        trace_h, error = sampled.value, sampled.stderr
    if trace_h <= 0:
        raise InputError(
            "tic.trace_ratio",
            f"a curvature of trace {trace_h:.3g}",
            "a positive trace",
            'use curvature="ggn", which has no negative eigenvalues',
        )
    mean = risk.gradient().double()
    d = risk.weight_decay * risk.theta.double()
    trace_c += float(2 * mean @ d - d @ d - (mean @ mean if centred else 0.0))
    raw = trace_c / trace_h
    value = raw / risk.num_examples
    decrement = float(mean @ mean) / (2 * trace_h)
    return Estimate(
        value,
        abs(value) * error / trace_h,
        warnings=_off_stationary(decrement, value),
        stats={
            "raw_trace": raw,
            "trace_curvature": trace_h,
            "trace_covariance": trace_c,
            "curvature": curvature,
            "gradient_norm": mean.norm().item(),
            "newton_decrement": decrement,
            "num_examples": risk.num_examples,
            "num_params": risk.num_params,
        },
    )


@dataclass(frozen=True)
class _Modes:
    """Diagonal entries in a basis in which H is taken to be diagonal, in float64."""

    curvature: Float[Tensor, " P"]
    covariance: Float[Tensor, " P"]
    gradient: Float[Tensor, " P"]


def _predicted_gap(
    risk: EmpiricalRisk,
    modes: _Modes,
    curvature: Curvature,
    damping: float,
    absolute_damping: float | None,
) -> Estimate:
    """Σ c / (|h| + λ) / N with what there is to know about it."""
    if damping < 0 or (absolute_damping or 0.0) < 0:
        raise InputError(
            "damping", str(min(damping, absolute_damping or 0.0)), "0 or more", "raise it"
        )
    h = modes.curvature.abs()
    largest = float(h.max())
    if largest == 0:
        raise InputError(
            "tic", "a curvature of zero", "a loss that bends somewhere", "check the outputs for inf"
        )
    absolute = damping * largest if absolute_damping is None else absolute_damping
    # Without damping a pseudo-inverse: below rounding, h and c are noise and so is their ratio.
    rounding = len(h) * torch.finfo(h.dtype).eps * largest
    inverse = torch.where(h + absolute <= rounding, 0.0, 1 / (h + absolute))
    raw = float((modes.covariance * inverse).sum())
    value = raw / risk.num_examples
    decrement = float((modes.gradient.square() * inverse).sum()) / 2
    negative = modes.curvature.clamp(max=0).abs().sum() / h.sum()
    return Estimate(
        value,
        torch.nan if curvature == "sampled_fisher" else 0.0,
        warnings=_off_stationary(decrement, value),
        stats={
            "raw_trace": raw,
            "damping": absolute / largest,
            "absolute_damping": absolute,
            "slope_log_damping": -float(
                (modes.covariance * absolute * inverse.square()).sum() / risk.num_examples
            ),
            "effective_rank": float((h * inverse).sum()),
            "negative_mass": float(negative),
            "largest_eigenvalue": largest,
            "curvature": curvature,
            "gradient_norm": modes.gradient.norm().item(),
            "newton_decrement": decrement,
            "num_examples": risk.num_examples,
            "num_params": risk.num_params,
        },
    )


def _off_stationary(decrement: float, value: float) -> tuple[str, ...]:
    """The warning where the Newton decrement is above the predicted gap."""
    if decrement <= value:
        return ()
    return ("not at a minimum: the Newton decrement is above the predicted gap",)


def _traces(risk: EmpiricalRisk, curvature: Curvature, generator: Generator) -> tuple[float, float]:
    """Exact tr H with the weight decay's ridge, and tr C of the data's part."""
    middle = middle_of(risk, curvature, generator)
    total = torch.zeros(2, dtype=torch.float64, device=risk.device)
    for batch, outputs, captured in output_captures(risk):
        gram = example_grams(captured)
        r = risk.loss.gradient(outputs, batch[1]).double()
        total[0] += (middle(outputs, batch).double() * gram).sum()
        total[1] += torch.einsum("bc,bcd,bd->", r, gram, r)
    trace_h, trace_c = (total / risk.num_examples).tolist()
    return trace_h + risk.weight_decay * risk.num_params, trace_c
