"""The empirical neural tangent kernel on the examples of a checkpoint  (Jacot et al. 2018).

K_ij = (1/C) Σ_c ⟨∂f_c(x_i)/∂θ, ∂f_c(x_j)/∂θ⟩: the mean over the C outputs, as the model gives them
(logits, output scale included) and for the parameters as the model has them: the same function
in the standard and in the NTK parametrization has different kernels. `at="initial"` takes the
kernel at the checkpoint's initial parameters. Of more than `max_examples` a random subset is
taken; matrices and factors stay within `max_memory` bytes, and what cannot is refused.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.curvature.linearized import MAX_MEMORY
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.examples import outputs_of
from gentheory.tangent import (
    KernelRegression,
    Linearization,
    Sample,
    Spectrum,
    centred,
    kernel_of,
    target_vectors,
)
from gentheory.tangent import alignment as alignment_of
from gentheory.tangent import distance as distance_of

__all__ = [
    "alignment",
    "condition_number",
    "distance",
    "effective_rank",
    "kernel_regression",
    "linearization_error",
    "spectrum",
    "velocity",
]

At = Literal["trained", "initial"]

_LISTED = 20
"""Eigenvalues in the stats."""


def spectrum(
    checkpoint: Checkpoint,
    *,
    at: At = "trained",
    max_examples: int = 1000,
    max_memory: int = MAX_MEMORY,
    generator: Generator,
) -> Estimate:
    """Largest eigenvalue of K / N; the first 20 and what the other measures say in `stats`.

    `stderr` covers the draw of the examples where a subset was taken (delete-a-group jackknife),
    and is 0 where all were. Eigenvalues below rounding count as 0.

    Cost: one forward and C backward passes, N² P operations at most, N³ for the eigenvalues.
    Source: Jacot et al. 2018 (arXiv 1806.07572); factors as in Novak et al. 2022.
    """
    sample, kernel = _kernel(checkpoint, "ntk.spectrum", at, max_examples, max_memory, generator)
    dtype = checkpoint.risk.dtype

    def top(part: Tensor) -> float:
        return float(Spectrum.of(part, dtype).eigenvalues[0])

    found = Spectrum.of(kernel, dtype)
    return _estimate(
        sample,
        kernel,
        top,
        trace=float(found.eigenvalues.sum()),
        eigenvalues=found.eigenvalues[:_LISTED].tolist(),
        rank=found.rank,
        condition_number=found.condition_number,
        effective_rank=found.effective_rank,
        participation_ratio=found.participation_ratio,
    )


def condition_number(
    checkpoint: Checkpoint,
    *,
    at: At = "trained",
    max_examples: int = 1000,
    max_memory: int = MAX_MEMORY,
    generator: Generator,
) -> Estimate:
    """λ_max / λ_min of K, over the eigenvalues above rounding; a warning where some are below.

    `stderr` is 0 where all examples are taken and nan where a subset is: the smallest eigenvalue
    falls with the number of examples, so that the number is that of the kernel on this many.

    Cost: as `spectrum`.
    Source: Xiao et al. 2020 (arXiv 1912.13053).
    """
    place = "ntk.condition_number"
    sample, kernel = _kernel(checkpoint, place, at, max_examples, max_memory, generator)
    found = Spectrum.of(kernel, checkpoint.risk.dtype)
    smallest = float(found.eigenvalues[found.rank - 1])
    singular = f"singular to rounding: rank {found.rank} of {len(kernel)}"
    return Estimate(
        found.condition_number,
        0.0 if len(kernel) == sample.total else math.nan,
        warnings=() if found.rank == len(kernel) else (singular,),
        stats={
            "largest": float(found.eigenvalues[0]),
            "smallest": smallest,
            "rank": found.rank,
            "num_examples": len(kernel),
        },
    )


def effective_rank(
    checkpoint: Checkpoint,
    *,
    at: At = "trained",
    max_examples: int = 1000,
    max_memory: int = MAX_MEMORY,
    generator: Generator,
) -> Estimate:
    """exp(−Σ p_k log p_k), p the eigenvalues of K over their sum; between 1 and N.

    `stats["participation_ratio"]` is (Σ λ)² / Σ λ². `stderr` as in `spectrum`: it covers the draw
    of the subset, not that a kernel on more examples has a higher rank.

    Cost: as `spectrum`.
    Source: Roy & Vetterli 2007.
    """
    place = "ntk.effective_rank"
    sample, kernel = _kernel(checkpoint, place, at, max_examples, max_memory, generator)
    dtype = checkpoint.risk.dtype
    found = Spectrum.of(kernel, dtype)
    return _estimate(
        sample,
        kernel,
        lambda part: Spectrum.of(part, dtype).effective_rank,
        participation_ratio=found.participation_ratio,
        rank=found.rank,
    )


def alignment(
    checkpoint: Checkpoint,
    *,
    at: At = "trained",
    max_examples: int = 1000,
    max_memory: int = MAX_MEMORY,
    generator: Generator,
) -> Estimate:
    """⟨K_c, Y_c Y_cᵀ⟩ / (‖K_c‖ ‖Y_c Y_cᵀ‖), kernel and targets Y centred over the examples (CKA).

    Classes are unit vectors. `stats["raw"]` is the same without centring, yᵀK y / (‖K‖ |y|²) for
    a single output: high already for a kernel that is constant. `stderr` as in `spectrum`.
    Refused where all targets are the same.

    Cost: as `spectrum`, without the eigenvalues.
    Source: Cortes et al. 2012 (arXiv 1203.0550); Kumar et al. 2023 (arXiv 2310.06110).
    """
    sample, kernel = _kernel(checkpoint, "ntk.alignment", at, max_examples, max_memory, generator)
    targets = target_vectors(sample.risk)

    def with_targets(index: Tensor) -> float:
        wanted = targets[index] - targets[index].mean(0)
        return alignment_of(centred(kernel[index][:, index]), wanted)

    value = with_targets(torch.arange(len(kernel)))
    if not math.isfinite(value):
        raise InputError(
            "ntk.alignment",
            "targets or a kernel that are the same for all examples",
            "at least two classes and a kernel that tells examples apart",
            'use examples of several classes, or at="trained"',
        )
    stats = {"raw": alignment_of(kernel, targets), "num_examples": len(kernel)}
    return Estimate(value, sample.stderr(with_targets), stats=stats)


def distance(
    checkpoint: Checkpoint,
    *,
    max_examples: int = 1000,
    max_memory: int = MAX_MEMORY,
    generator: Generator,
) -> Estimate:
    """1 − ⟨K₀, K⟩ / (‖K₀‖ ‖K‖), between the kernels at initialization and after training.

    0 in the kernel regime, whatever the size of the kernels, whose ratio is in `stats`, with the
    relative change ‖K − K₀‖ / ‖K₀‖. `stderr` as in `spectrum`. Refused where the checkpoint does
    not hold its initial parameters.

    Cost: twice `spectrum`, without the eigenvalues.
    Source: Fort et al. 2020 (arXiv 2010.15110).
    """
    initial = checkpoint.initial_for("ntk.distance")
    sample = Sample.of(checkpoint.risk, max_examples, generator)
    before = kernel_of(sample.at(initial), max_memory)
    after = kernel_of(sample.risk, max_memory)
    return _distance(
        sample,
        before,
        after,
        norm_ratio=float(after.norm() / before.norm()),
        relative_change=float((after - before).norm() / before.norm()),
    )


def velocity(
    checkpoint: Checkpoint,
    *,
    max_examples: int = 1000,
    max_memory: int = MAX_MEMORY,
    generator: Generator,
) -> Estimate:
    """Kernel distance (1 − cosine) between two times in training, over the learning-rate time.

    Between the ends of the last two windows of the trajectory where training kept it, and from
    initialization otherwise: `stats["since"]` says which. `stderr` as in `spectrum`. Refused where
    neither a trajectory nor initial parameters with the training time are known.

    Cost: as `distance`.
    Source: Fort et al. 2020 (arXiv 2010.15110).
    """
    start, time, since = _last_stretch(checkpoint)
    sample = Sample.of(checkpoint.risk, max_examples, generator)
    before = kernel_of(sample.at(start), max_memory)
    after = kernel_of(sample.risk, max_memory)
    return _distance(sample, before, after, time, since=since, time=time)


def linearization_error(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """|f − f₀ − J₀(θ − θ₀)| / |f − f₀| over all examples' outputs: 0 for a net linear in θ. Exact.

    The trained outputs f against the model linearized at initialization, relative to what training
    changed. In `stats`: relative to |f| itself; the cosine between J₀(θ − θ₀) and f − f₀; and both
    with the Jacobian at the end, J(θ − θ₀). Refused where the checkpoint does not hold its
    initial parameters, or where the outputs are still those at initialization.

    Cost: two forward-mode passes over the data.
    Source: Lee et al. 2019 (arXiv 1902.06720); Chizat et al. 2019 (arXiv 1812.07956).
    """
    found = Linearization.of(checkpoint.risk, checkpoint.initial_for("ntk.linearization_error"))
    if not 0 < found.change < math.inf:
        raise InputError(
            "ntk.linearization_error",
            f"outputs that changed by {found.change:g} since initialization",
            "a finite change",
            "train the model, from parameters at which its outputs are finite",
        )
    at_start, at_end = (math.sqrt(error / found.change) for error in found.errors)
    cosines = [
        inner / math.sqrt(found.change * size) if size else 0.0
        for inner, size in zip(found.inner, found.predicted, strict=True)
    ]
    return Estimate(
        at_start,
        stats={
            "of_outputs": math.sqrt(found.errors[0] / found.outputs) if found.outputs else math.nan,
            "cosine": cosines[0],
            "at_end": at_end,
            "cosine_at_end": cosines[1],
            "change": math.sqrt(found.change / checkpoint.risk.num_examples),
        },
    )


def kernel_regression(
    checkpoint: Checkpoint,
    *,
    at: At = "initial",
    ridge: float = 1e-3,
    max_examples: int = 1000,
    max_memory: int = MAX_MEMORY,
    generator: Generator,
) -> Estimate:
    """Share of examples that f₀ + K₀(K₀ + λ)⁻¹(Y − f₀), leave-one-out, classifies as the net does.

    The net linearized at initialization and trained to the end on the squared error to the targets
    (classes as unit vectors), each example predicted without itself, against the trained net's
    largest output (the sign of a single one). `at="trained"` regresses from zero with the kernel
    after training. λ is `ridge` times the mean of K's diagonal. In `stats`: agreement on the
    training data, leave-one-out error and accuracy. `stderr` covers the draw of the examples of a
    subset as shares of independent ones, not what fewer examples to learn from cost.

    Cost: as `spectrum`, with N³ for an inverse.
    Source: Jacot et al. 2018; leave-one-out as in Bachmann et al. 2022 (arXiv 2203.03443).
    """
    place = "ntk.kernel_regression"
    if not ridge >= 0:
        raise InputError(f"{place}.ridge", str(ridge), "0 or more", "give such a number")
    sample = Sample.of(checkpoint.risk, max_examples, generator)
    start = sample.at(checkpoint.initial_for(place)) if at == "initial" else sample.risk
    kernel, targets = kernel_of(start, max_memory), target_vectors(start)
    offset = outputs_of(start) if at == "initial" else torch.zeros_like(targets)
    absolute = ridge * float(kernel.diagonal().mean())
    regression = KernelRegression.of(kernel, targets - offset, absolute)
    trained, left_out = _classes(outputs_of(sample.risk)), offset + regression.left_out()
    share = float((_classes(left_out) == trained).double().mean())
    fitted = _classes(offset + regression.fitted())
    count, classes = len(kernel), _classes(targets)
    unseen = 1 - count / sample.total
    return Estimate(
        share,
        math.sqrt(share * (1 - share) / count * unseen),
        stats={
            "training_agreement": float((fitted == trained).double().mean()),
            "accuracy": float((_classes(left_out) == classes).double().mean()),
            "training_accuracy": float((fitted == classes).double().mean()),
            "squared_error": float((left_out - targets).square().mean()),
            "ridge": absolute,
            "num_examples": count,
        },
    )


def _kernel(
    checkpoint: Checkpoint,
    place: str,
    at: At,
    max_examples: int,
    max_memory: int,
    generator: Generator,
) -> tuple[Sample, Float[Tensor, "N N"]]:
    if at not in ("trained", "initial"):
        raise InputError(f"{place}.at", repr(at), "'trained' or 'initial'", "choose one")
    sample = Sample.of(checkpoint.risk, max_examples, generator)
    risk = sample.risk if at == "trained" else sample.at(checkpoint.initial_for(place))
    return sample, kernel_of(risk, max_memory)


def _estimate(
    sample: Sample,
    kernel: Float[Tensor, "N N"],
    statistic: Callable[[Tensor], float],
    **stats: float | list[float],
) -> Estimate:
    """A statistic of the kernel, with its jackknife."""
    error = sample.stderr(lambda index: statistic(kernel[index][:, index]))
    return Estimate(statistic(kernel), error, stats={**stats, "num_examples": len(kernel)})


def _distance(
    sample: Sample,
    before: Float[Tensor, "N N"],
    after: Float[Tensor, "N N"],
    unit: float = 1.0,
    **stats: float | str,
) -> Estimate:
    def apart(index: Tensor) -> float:
        return distance_of(before[index][:, index], after[index][:, index]) / unit

    value = distance_of(before, after) / unit
    return Estimate(value, sample.stderr(apart), stats={**stats, "num_examples": len(after)})


def _last_stretch(checkpoint: Checkpoint) -> tuple[Float[Tensor, " P"], float, str]:
    """Parameters at an earlier time, how long ago that was, and what the time is called."""
    windows = [] if checkpoint.trajectory is None else checkpoint.trajectory.windows()
    if len(windows) > 1:
        return windows[-2].parameters.to(checkpoint.risk.theta), float(windows[-1].time), "window"
    if checkpoint.training_time:
        initial = checkpoint.initial_for("ntk.velocity")
        return initial, checkpoint.training_time, "initialization"
    raise InputError(
        "ntk.velocity",
        "neither a trajectory nor a training time",
        "one of them",
        "train with keep_trajectory, or hand in Checkpoint(risk, initial, training_time=…)",
    )


def _classes(outputs: Float[Tensor, "N C"]) -> Tensor:
    """The largest output; of a single one its sign."""
    return outputs[:, 0] > 0 if outputs.shape[1] == 1 else outputs.argmax(1)
