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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.curvature import hessian
from gentheory.curvature.influence import influence
from gentheory.curvature.moments import (
    Curvature,
    dense_moments,
    diagonal_moments,
    middle_of,
)
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.examples import Examples
from gentheory.factors.capture import output_captures
from gentheory.factors.ghost import example_grams
from gentheory.factors.sample_space import SampleSpace
from gentheory.linalg import hutchinson
from gentheory.risk import EmpiricalRisk

__all__ = ["diagonal", "exact", "kernel", "leave_one_out", "trace_ratio"]


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


def kernel(
    checkpoint: Checkpoint,
    *,
    centred: bool = False,
    damping: float = 1e-3,
    absolute_damping: float | None = None,
    max_size: int = 6000,
    generator: Generator,
) -> Estimate:
    """`exact` on the GGN in sample space, for nets with more parameters than N · C.

    The spectrum comes from the Gram matrix of the examples' output gradients, (N C)³ operations
    and no Jacobian; what no mode reaches has the weight decay for a curvature. `stderr` as in
    `exact`. Refused where N · C is above `max_size`.
    """
    risk = checkpoint.risk
    space = _sample_space(risk, max_size, "tic.kernel", "tic.exact or tic.diagonal")
    mean, d = risk.gradient().double(), risk.weight_decay * risk.theta.double()
    towards_mean, towards_d = space.coordinates(mean), space.coordinates(d)
    r = space.examples.residuals
    along = torch.einsum("nc,nck->nk", r, space.modes) + towards_d
    covariance = along.square().mean(0)
    total = torch.einsum("nc,ncd,nd->", r, space.own, r) / len(r) + 2 * mean @ d - d @ d
    if centred:
        covariance, total = covariance - towards_mean.square(), total - mean @ mean
    beyond = torch.stack([total - covariance.sum(), mean @ mean - towards_mean.square().sum()])
    covariance_beyond, gradient_beyond = beyond.clamp(min=0)
    modes = _Modes(
        torch.cat([space.eigenvalues, beyond.new_zeros(1)]) + risk.weight_decay,
        torch.cat([covariance, covariance_beyond[None]]),
        torch.cat([towards_mean, gradient_beyond.sqrt()[None]]),
        unseen=risk.num_params - len(space.eigenvalues),
    )
    return _predicted_gap(risk, modes, "ggn", damping, absolute_damping)


def leave_one_out(
    checkpoint: Checkpoint,
    *,
    damping: float | Literal["training"] = 1e-3,
    absolute_damping: float | None = None,
    residuals: Literal["final", "training"] = "final",
    max_size: int = 6000,
    generator: Generator,
) -> Estimate:
    """Approximate leave-one-out gap: mean loss of each example without it, less the loss with it.

    The outputs without example i are f_i + (I − A_i Λ_i)⁻¹ A_i r_i, A_i = J_i (G + λ)⁻¹ J_iᵀ / N:
    exact for ridge regression (Rad & Maleki 2020); its first-order term is TIC.
    `damping="training"` takes λ = 1 / T, T the learning-rate time: early stopping as ridge.
    `residuals="training"` takes the average of r_i along training in place of the last one, which
    vanishes where the training data are interpolated although the example taught the net much.

    G is the GGN with the risk's weight decay. `stderr` is 0: exact for the data handed in.
    Works in the space of parameters or of samples, whichever is smaller; refused where both are
    above `max_size`, and where training time or residuals are asked for but were not kept.
    """
    risk = checkpoint.risk
    examples, largest, blocks = _influence(risk, max_size)
    absolute = _loo_damping(checkpoint, damping, absolute_damping, largest)
    a = blocks(absolute)
    r = _chosen_residuals(checkpoint, examples, residuals)
    direct = torch.einsum("ncd,nd->nc", a, r)
    eye = torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    shift = torch.linalg.solve(eye - a @ examples.middles, direct)
    before = risk.loss.values(examples.outputs, examples.targets)
    gaps = risk.loss.values(examples.outputs + shift, examples.targets) - before
    plain = risk.loss.values(examples.outputs + direct, examples.targets) - before
    leverage = torch.linalg.eigvals(a @ examples.middles).abs().amax(-1)
    ordered = gaps.sort().values
    top = max(1, len(gaps) // 20)
    return Estimate(
        gaps.mean().item(),
        stats={
            "damping": absolute / largest,
            "absolute_damping": absolute,
            "residuals": residuals,
            "plain_shift": plain.mean().item(),
            "first_order": torch.einsum("nc,nc->n", r, direct).mean().item(),
            "largest_leverage": leverage.max().item(),
            "median": gaps.median().item(),
            "share_of_top_5_percent": (ordered[-top:].sum() / gaps.sum()).item(),
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
    unseen: int = 1
    """Directions that the last entry stands for, all of the same curvature."""


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
            "effective_rank": float((h * inverse).sum() + (modes.unseen - 1) * (h * inverse)[-1]),
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


def _sample_space(risk: EmpiricalRisk, max_size: int, place: str, instead: str) -> SampleSpace:
    """The sample space, unless the Gram matrix is too large."""
    classes = risk.outputs(risk.theta, next(risk.batches())[0][:1]).shape[1]
    size = risk.num_examples * classes
    if size > max_size:
        gibibytes = 4 * 8 * size**2 / 2**30
        raise InputError(
            place,
            f"{risk.num_examples} examples × {classes} outputs, which take {gibibytes:.1f} GiB",
            f"at most max_size = {max_size} of them",
            f"use {instead}, fewer examples, or raise max_size",
        )
    return SampleSpace.of(risk)


def _influence(
    risk: EmpiricalRisk, max_size: int
) -> tuple[Examples, float, Callable[[float], Float[Tensor, "N C C"]]]:
    """The examples, the largest eigenvalue of G, and A_i as a function of the absolute damping."""
    classes = risk.outputs(risk.theta, next(risk.batches())[0][:1]).shape[1]
    if risk.num_params <= min(max_size, risk.num_examples * classes):
        moments = dense_moments(risk, "ggn", centred=False, generator=Generator())
        values, vectors = torch.linalg.eigh(moments.curvature)
        return (
            Examples.of(risk),
            float(values[-1]),
            lambda ridge: influence(risk, values, vectors, ridge),
        )
    space = _sample_space(risk, max_size, "tic.leave_one_out", "a subset of the examples")
    largest = float(space.eigenvalues[-1]) + risk.weight_decay
    return space.examples, largest, lambda ridge: space.influence(ridge + risk.weight_decay)


def _loo_damping(
    checkpoint: Checkpoint,
    damping: float | Literal["training"],
    absolute: float | None,
    largest: float,
) -> float:
    """λ beside the weight decay."""
    if absolute is not None:
        return absolute
    if damping != "training":
        return float(damping) * largest
    if not checkpoint.training_time:
        raise InputError(
            "tic.leave_one_out",
            'damping="training" on a checkpoint without training time',
            "one that knows it",
            "hand in Checkpoint(risk, training_time=sum of learning rate / (1 - momentum))",
        )
    return 1 / checkpoint.training_time


def _chosen_residuals(
    checkpoint: Checkpoint, examples: Examples, residuals: Literal["final", "training"]
) -> Float[Tensor, "N C"]:
    if residuals == "final":
        return examples.residuals
    kept = checkpoint.mean_residuals
    if kept is None or kept.shape != examples.residuals.shape:
        raise InputError(
            "tic.leave_one_out",
            'residuals="training" on a checkpoint that kept none for these examples',
            "the mean residuals of the same examples in the same order",
            'train with keep_residuals, or use residuals="final"',
        )
    return kept.to(examples.residuals)
