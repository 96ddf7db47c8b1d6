"""The predicted gap as an `Estimate`, with what there is to know about it."""

import math
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.middles import Curvature
from gentheory.modes import Gap, Modes
from gentheory.risk import EmpiricalRisk

Damping: TypeAlias = float | Literal["training"]
"""Relative to the largest eigenvalue, or 1 / T with T the learning-rate time."""


def predicted_gap(
    checkpoint: Checkpoint,
    modes: Modes,
    curvature: Curvature,
    damping: Damping,
    absolute_damping: float | None,
    truncated: bool,
) -> Estimate:
    """Σ c / (|h| + λ) / n with what there is to know about it."""
    ridge = ridge_of(checkpoint, modes.largest, damping, absolute_damping)
    return estimate_of(
        checkpoint,
        modes.gap(ridge, truncated=truncated),
        stderr=torch.nan if curvature == "sampled_fisher" else 0.0,
        damping=ridge / modes.largest,
        absolute_damping=ridge,
        negative_mass=modes.negative_mass,
        largest_eigenvalue=modes.largest,
        curvature=curvature,
        gradient_norm=modes.gradient.norm().item(),
    )


def estimate_of(
    checkpoint: Checkpoint,
    gap: Gap,
    *,
    stderr: float,
    warnings: tuple[str, ...] = (),
    **stats: float | str | None,
) -> Estimate:
    """The raw trace over n; warns off a minimum. What is nan is not known, and left out."""
    count = checkpoint.num_training_examples
    value = gap.raw_trace / count
    known = {"slope_log_damping": gap.slope / count, "effective_rank": gap.effective_rank}
    return Estimate(
        value,
        stderr,
        warnings=(*_off_stationary(gap.newton_decrement, value), *warnings),
        stats={
            "raw_trace": gap.raw_trace,
            "newton_decrement": gap.newton_decrement,
            **{name: number for name, number in known.items() if not math.isnan(number)},
            **stats,
            **sizes(checkpoint),
        },
    )


def solved_gap(
    risk: EmpiricalRisk,
    rows: Float[Tensor, "K P"],
    x: Float[Tensor, "K P"],
    num_probes: int,
    ridge: float,
) -> tuple[Gap, float, float]:
    """The gap with the standard errors of raw trace and effective rank.

    From x = (H + ridge)⁻¹ rows: draws of the gradients, probes of the rank, the mean gradient.
    """
    forms = (rows.double() * x.double()).sum(1)
    trace = Estimate.from_samples(forms[:num_probes])
    rank = Estimate.from_samples(risk.num_params - ridge * forms[num_probes:-1])
    slope = -ridge * x[:num_probes].double().square().sum(1).mean().item()
    gap = Gap(trace.value, slope, rank.value, forms[-1].item() / 2)
    return gap, trace.stderr, rank.stderr


def ridge_of(checkpoint: Checkpoint, top: float, damping: Damping, absolute: float | None) -> float:
    """λ beside the weight decay; refused where `top`, the largest curvature, is zero."""
    if top == 0:
        raise InputError(
            "curvature", "zero everywhere", "a loss that bends somewhere", "check the outputs"
        )
    given = damping if absolute is None else absolute
    if given != "training":
        if not 0 <= given < math.inf:
            raise InputError("damping", f"{given:g}", "a number of 0 or more", "raise it")
        return given * top if absolute is None else given
    time = checkpoint.training_time_for('damping="training"')
    if not 0 < time < math.inf:
        raise InputError(
            "training_time",
            f"{time:g}",
            "a positive number",
            "sum learning rate / (1 - momentum) over the steps",
        )
    return 1 / time


def check_definite(risk: EmpiricalRisk, curvature: Curvature, damping: Damping) -> None:
    """Raise `InputError` for a damped curvature that conjugate gradients cannot be sure to solve.

    "hessian" may have negative eigenvalues, and without damping or weight decay any curvature
    may have none at all in some directions.
    """
    if curvature == "hessian":
        raise InputError(
            "curvature", "'hessian'", "one without negative eigenvalues", 'use curvature="ggn"'
        )
    if damping == 0 and not risk.weight_decay:
        raise InputError(
            "damping", "0 without weight decay", "more than 0", "raise it, or use tic.exact"
        )


def _off_stationary(decrement: float, value: float) -> tuple[str, ...]:
    """The warning where the Newton decrement is above the predicted gap."""
    if decrement <= value:
        return ()
    return ("not at a minimum: the Newton decrement is above the predicted gap",)


def sizes(checkpoint: Checkpoint) -> dict[str, int]:
    risk = checkpoint.risk
    return {"num_examples": risk.num_examples, "num_params": risk.num_params}
