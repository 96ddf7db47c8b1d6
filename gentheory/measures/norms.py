"""Norms of the weights and of the way they went, numbered as by Jiang et al. 2020.

The weights W_l are the parameters with two axes or more, BatchNorm folded into them
(`gentheory.weights`), tied ones once, frozen ones included; biases and scales are left out. ‖W‖₂
of a convolution is that of the linear map on inputs of its size, not of the reshaped kernel.
Values are raw; `stats["as_reported"]` is what the paper compares, √(value / m), or
(value − log m) / 2 of a logarithm, m the number of training examples. With `over_margin` the value
is divided by γ², γ the 10th percentile of the training margins, which must be positive; `stderr`
then covers the draw of the examples behind γ too.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.predictions import Quantile, positive_margin
from gentheory.risk import EmpiricalRisk
from gentheory.weights import Weights, folded

__all__ = [
    "distance",
    "frobenius",
    "frobenius_distance",
    "frobenius_sum",
    "parameters",
    "path",
    "spectral",
    "spectral_complexity",
    "spectral_distance",
    "stable_rank",
]


def parameters(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """|θ|₂ over the trainable parameters, biases included, tied ones once. Exact.

    Cost: P operations.
    Source: Jiang et al. 2020 (arXiv 1912.02178).
    """
    return Estimate(checkpoint.risk.theta.double().norm().item())


def distance(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """|θ − θ₀|₂, the distance from the initialization. Exact.

    Refused where the checkpoint does not hold its initial parameters.

    Cost: P operations.
    Source: Nagarajan & Kolter 2019 (arXiv 1901.01672).
    """
    initial = checkpoint.initial_for("norms.distance").double()
    theta = checkpoint.risk.theta.double()
    return Estimate((theta - initial).norm().item(), stats={"initial_norm": initial.norm().item()})


def spectral(
    checkpoint: Checkpoint, *, over_margin: bool = False, generator: Generator
) -> Estimate:
    """Σ_l log ‖W_l‖₂² (32); less 2 log γ with `over_margin` (31).

    `stats["log_sum"]` is log L + value / L (35; 34 with `over_margin`), `stats["log_squares"]` has
    the terms by layer. `stderr` is the residual of Lanczos on the convolutions, 0 without any, and
    the error of 2 log γ.

    Cost: a singular value decomposition a matrix; tens of products a convolution.
    Source: Jiang et al. 2020 (arXiv 1912.02178), eq. 31, 32, 34, 35; Bartlett et al. 2017.
    """
    weights = Weights.of(checkpoint, "norms.spectral")
    squares, errors = weights.spectral()
    margin = positive_margin("norms.spectral", checkpoint.risk) if over_margin else None
    return _product(checkpoint, weights, squares, float((errors / squares).sum()), margin)


def frobenius(
    checkpoint: Checkpoint, *, over_margin: bool = False, generator: Generator
) -> Estimate:
    """Σ_l log ‖W_l‖_F² (37); less 2 log γ with `over_margin` (36).

    `stats["log_sum"]` is log L + value / L (39; 38 with `over_margin`), `stats["log_squares"]` has
    the terms by layer. `stderr` is 0, or the error of 2 log γ.

    Cost: P operations.
    Source: Jiang et al. 2020 (arXiv 1912.02178), eq. 36 to 39.
    """
    weights = Weights.of(checkpoint, "norms.frobenius")
    weights.check_nonzero()
    margin = positive_margin("norms.frobenius", checkpoint.risk) if over_margin else None
    return _product(checkpoint, weights, weights.frobenius, 0.0, margin)


def stable_rank(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """Σ_l ‖W_l‖_F² / ‖W_l‖₂² (33).

    `stats["ranks"]` has the terms by layer. `stderr` is the residual of Lanczos on the
    convolutions, 0 without any. ‖W‖_F is the kernel's, so the term of a convolution can be below 1.

    Cost: that of `norms.spectral`.
    Source: Jiang et al. 2020 (arXiv 1912.02178), eq. 33.
    """
    weights = Weights.of(checkpoint, "norms.stable_rank")
    squares, errors = weights.spectral()
    ranks = weights.frobenius / squares
    stats = {"layers": _names(weights), "ranks": ranks.tolist()}
    error = float((ranks * errors / squares).sum())
    return _summed(checkpoint, weights, float(ranks.sum()), error, stats)


def spectral_complexity(
    checkpoint: Checkpoint,
    *,
    reference: Literal["origin", "initial"] = "origin",
    over_margin: bool = False,
    generator: Generator,
) -> Estimate:
    """log(Π_l ‖W_l‖₂² · Σ_l ‖W_l − R_l‖_F² / ‖W_l‖₂²); less 2 log γ with `over_margin` (30, 29).

    R is 0 for the origin (30), W₀ for the initial weights (29), refused where the checkpoint does
    not hold them. `stderr` is the residual of Lanczos on the convolutions, 0 without any, and the
    error of 2 log γ.

    Cost: that of `norms.spectral`.
    Source: Jiang et al. 2020 (arXiv 1912.02178), eq. 29, 30; Neyshabur et al. 2018.
    """
    weights = Weights.of(checkpoint, "norms.spectral_complexity")
    squares, errors = weights.spectral()
    own = weights.frobenius if reference == "origin" else weights.frobenius_apart
    factor = float((own / squares).sum())
    if factor == 0:
        raise InputError(
            "norms.spectral_complexity",
            "weights that never left their initialization",
            "some distance between them",
            'train the net, or use reference="origin"',
        )
    margin = None
    if over_margin:
        margin = positive_margin("norms.spectral_complexity", checkpoint.risk)
    value = float(squares.log().sum()) + math.log(factor)
    return _logarithm(checkpoint, weights, value, 2 * float((errors / squares).sum()), margin)


def frobenius_distance(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """Σ_l ‖W_l − W₀_l‖_F² (40). Exact.

    Refused where the checkpoint does not hold its initial parameters.

    Cost: P operations.
    Source: Jiang et al. 2020 (arXiv 1912.02178), eq. 40; Nagarajan & Kolter 2019.
    """
    weights = Weights.of(checkpoint, "norms.frobenius_distance")
    squares = weights.frobenius_apart
    stats = {"layers": _names(weights), "squares": squares.tolist()}
    return _summed(checkpoint, weights, float(squares.sum()), 0.0, stats)


def spectral_distance(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """Σ_l ‖W_l − W₀_l‖₂² (41).

    Refused where the checkpoint does not hold its initial parameters. `stderr` is the residual of
    Lanczos on the convolutions, 0 without any.

    Cost: that of `norms.spectral`.
    Source: Jiang et al. 2020 (arXiv 1912.02178), eq. 41.
    """
    weights = Weights.of(checkpoint, "norms.spectral_distance")
    squares, errors = weights.spectral_apart()
    stats = {"layers": _names(weights), "squares": squares.tolist()}
    return _summed(checkpoint, weights, float(squares.sum()), float(errors.sum()), stats)


def frobenius_sum(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """Σ_l ‖W_l‖_F² (42). Exact.

    Cost: P operations.
    Source: Jiang et al. 2020 (arXiv 1912.02178), eq. 42.
    """
    weights = Weights.of(checkpoint, "norms.frobenius_sum")
    squares = weights.frobenius
    stats = {"layers": _names(weights), "squares": squares.tolist()}
    return _summed(checkpoint, weights, float(squares.sum()), 0.0, stats)


def path(checkpoint: Checkpoint, *, over_margin: bool = False, generator: Generator) -> Estimate:
    """Σ_k f_{θ²}(1)_k, the outputs with squared parameters on an input of ones (44).

    For a ReLU net the sum over all paths from an input or a bias to an output of the product of the
    squared weights along it. Divided by γ² with `over_margin` (43). Exact, but for the error
    of γ, which is the `stderr`. A warning where the net with squared parameters is not linear in
    positive inputs (normalization, attention, saturating activations): the value is then no such
    sum. Refused where inputs are indices.

    Cost: four forward passes of one example.
    Source: Neyshabur, Tomioka & Srebro 2015; Jiang et al. 2020 (arXiv 1912.02178), eq. 43, 44.
    """
    found = folded(checkpoint)
    risk = found.checkpoint.risk
    margin = positive_margin("norms.path", risk) if over_margin else None
    inputs = next(risk.batches())[0][:1]
    if not inputs.is_floating_point():
        raise InputError(
            "norms.path", f"inputs of {inputs.dtype}", "real numbers", "use norms.frobenius"
        )
    squared = _squared(risk)
    ones = torch.ones_like(inputs, dtype=torch.float64)
    total = squared(ones)
    curved = () if _affine(squared, ones) else ("not linear in positive inputs: no sum over paths",)
    value = total if margin is None else total / margin.value**2
    stderr = 0.0 if margin is None else 2 * value * margin.stderr / margin.value
    reported = math.sqrt(max(value, 0) / checkpoint.num_training_examples)
    stats = {"as_reported": reported, **_margin_stats(margin)}
    return Estimate(value, stderr, warnings=(*found.warnings, *curved), stats=stats)


def _squared(risk: EmpiricalRisk) -> Callable[[Tensor], float]:
    """The sum of the outputs of the net in float64 with all parameters squared."""
    module = copy.deepcopy(risk.module).double()
    own = risk.layout.unflatten(risk.theta)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(own.get(name, parameter).double().square())
    squared = risk.of_module(module)

    def total(inputs: Tensor) -> float:
        with torch.no_grad():
            return float(squared.outputs(squared.theta, inputs).sum())

    return total


def _affine(total: Callable[[Tensor], float], like: Tensor) -> bool:
    """Whether the sum of the outputs is, along a ray of positive inputs that are not all equal."""
    ramp = torch.linspace(1, 2, like.numel(), dtype=like.dtype, device=like.device)
    zero, one, two = (total(t * ramp.reshape(like.shape)) for t in (0, 1, 2))
    rounding = torch.finfo(like.dtype).eps ** 0.5 * abs(two)
    return abs((two - one) - (one - zero)) <= rounding


def _product(
    checkpoint: Checkpoint,
    weights: Weights,
    squares: Float[Tensor, " L"],
    error: float,
    margin: Quantile | None,
) -> Estimate:
    """Σ log of the squared norms, over γ² where there is a margin."""
    logs = squares.log()
    estimate = _logarithm(checkpoint, weights, float(logs.sum()), error, margin)
    count = len(logs)
    stats = {
        "layers": _names(weights),
        "log_squares": logs.tolist(),
        "log_sum": math.log(count) + estimate.value / count,
    }
    return Estimate(
        estimate.value,
        estimate.stderr,
        warnings=estimate.warnings,
        stats={**estimate.stats, **stats},
    )


def _logarithm(
    checkpoint: Checkpoint, weights: Weights, value: float, error: float, margin: Quantile | None
) -> Estimate:
    if margin is not None:
        value -= 2 * math.log(margin.value)
        error += 2 * margin.stderr / margin.value
    reported = (value - math.log(checkpoint.num_training_examples)) / 2
    stats = {"as_reported": reported, **_margin_stats(margin)}
    return Estimate(value, error, warnings=weights.warnings, stats=stats)


def _summed(
    checkpoint: Checkpoint, weights: Weights, value: float, error: float, stats: dict[str, Any]
) -> Estimate:
    reported = math.sqrt(value / checkpoint.num_training_examples)
    return Estimate(
        value, error, warnings=weights.warnings, stats={"as_reported": reported, **stats}
    )


def _margin_stats(margin: Quantile | None) -> dict[str, float]:
    return {} if margin is None else {"margin": margin.value, "margin_stderr": margin.stderr}


def _names(weights: Weights) -> list[str]:
    return [entry.name for entry in weights.entries]
