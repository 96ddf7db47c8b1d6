"""PAC-Bayes: the noise on the parameters that costs a tenth of the training accuracy.

σ is the standard deviation (never the variance) of normal noise on every trainable parameter, with
BatchNorm folded, at which the mean training accuracy has dropped by `drop`. With `magnitude_aware`
the noise on parameter i has the standard deviation √(σ'² θ_i² + ε²), ε = 10⁻³. Numbers are those of
Jiang et al. 2020; values are raw, `stats["as_reported"]` is √(value / m), m the number of training
examples.
"""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.noise_scale import NoiseScale, Widths, accuracy_to_lose, bracket, noise_scale
from gentheory.predictions import accuracies_at
from gentheory.risk import EmpiricalRisk
from gentheory.weights import Folded, folded

__all__ = ["bound", "inverse_variance", "sigma", "worst_case"]

_EPSILON = 1e-3


def sigma(
    checkpoint: Checkpoint,
    *,
    drop: float = 0.1,
    num_draws: int = 32,
    magnitude_aware: bool = False,
    generator: Generator,
) -> Estimate:
    """σ with accuracy(θ) − E accuracy(θ + σ u) = drop, u ~ N(0, I), by bisection.

    The same `num_draws` draws at every σ. `stderr` covers them: the standard error of the mean
    drop over its slope in σ. `stats` has the bracket that σ was found in, with the drops there.
    Refused without classes, and where no σ gives that drop.

    Cost: about 4 num_draws forward passes.
    Source: Jiang et al. 2020 (arXiv 1912.02178); Dziugaite & Roy 2017.
    """
    found = folded(checkpoint)
    scale = _scale("pac_bayes.sigma", found, drop, num_draws, magnitude_aware, generator)
    stats = _search_stats(scale, num_draws)
    return Estimate(scale.value, scale.stderr, warnings=found.warnings, stats=stats)


def inverse_variance(
    checkpoint: Checkpoint,
    *,
    drop: float = 0.1,
    num_draws: int = 32,
    magnitude_aware: bool = False,
    generator: Generator,
) -> Estimate:
    """1 / σ² (53), or 1 / σ'² with `magnitude_aware` (61); σ as in `pac_bayes.sigma`.

    `stderr` covers the draws of noise, to first order. Refused as `pac_bayes.sigma`.

    Cost: about 4 num_draws forward passes.
    Source: Jiang et al. 2020 (arXiv 1912.02178), eq. 53, 61.
    """
    place, found = "pac_bayes.inverse_variance", folded(checkpoint)
    scale = _scale(place, found, drop, num_draws, magnitude_aware, generator)
    value = scale.value**-2
    stats = {
        "sigma": scale.value,
        "sigma_stderr": scale.stderr,
        "as_reported": math.sqrt(value / checkpoint.num_training_examples),
        **_search_stats(scale, num_draws),
    }
    error = 2 * value * scale.stderr / scale.value
    return Estimate(value, error, warnings=found.warnings, stats=stats)


def bound(
    checkpoint: Checkpoint,
    *,
    reference: Literal["origin", "initial"] = "origin",
    drop: float = 0.1,
    num_draws: int = 32,
    magnitude_aware: bool = False,
    generator: Generator,
) -> Estimate:
    """|θ − r|² / (4 σ²) + log(m / σ) + 10, r = 0 (49) or θ₀ (48); σ as in `pac_bayes.sigma`.

    With `magnitude_aware`, from r = 0 (57) or θ₀ (56),
    ¼ Σ_i log[(ε² + (σ'² + 1) |θ − r|² / P) / (ε² + σ'² (θ_i − r_i)²)] + log(m / σ') + 10. `stderr`
    covers the draws of noise, to first order. Refused as `pac_bayes.sigma`, and where θ₀ is asked
    for and not held.

    Cost: about 4 num_draws forward passes.
    Source: Jiang et al. 2020 (arXiv 1912.02178), eq. 48, 49, 56, 57, the last with θ_i − r_i.
    """
    found = folded(checkpoint)
    way = _way(found.checkpoint, reference)
    scale = _scale("pac_bayes.bound", found, drop, num_draws, magnitude_aware, generator)
    m = checkpoint.num_training_examples
    at = torch.tensor(scale.value, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        divergence = _magnitude_divergence if magnitude_aware else _divergence
        value = divergence(way, at) + (m / at).log() + 10
    slope, value = float(torch.autograd.grad(value, at)[0]), value.detach()
    stats = {
        "sigma": scale.value,
        "sigma_stderr": scale.stderr,
        "reference": reference,
        "as_reported": math.sqrt(max(float(value), 0.0) / m),
        **_search_stats(scale, num_draws),
    }
    error = abs(slope) * scale.stderr
    return Estimate(float(value), error, warnings=found.warnings, stats=stats)


def worst_case(
    checkpoint: Checkpoint,
    *,
    drop: float = 0.1,
    num_steps: int = 10,
    magnitude_aware: bool = False,
    rtol: float = 0.05,
    generator: Generator,
) -> Estimate:
    """1 / α², α the radius of |u_i| ≤ α in which accuracy(θ + u) can be `drop` lower.

    |u_i| ≤ α' |θ_i| + ε with `magnitude_aware`. The worst u is sought by `num_steps` steps of
    projected ascent along the sign of the loss's gradient from u = 0, α by bisection: an upper
    bound on α, so a lower bound on the value. It is a loose one where the way up the loss lowers
    all margins alike, as in nets that have hardly been trained; α can then exceed σ. `stderr` is
    the half width of the last bracket, whose ratio is at most 1 + `rtol`; nothing is random.
    Refused without classes, and where no α gives that drop.

    Cost: about 10 num_steps forward and backward passes.
    Source: Jiang et al. 2020 (arXiv 1912.02178), sharpness; Keskar et al. 2017.
    """
    place, found = "pac_bayes.worst_case", folded(checkpoint)
    risk = found.checkpoint.risk
    accuracy = accuracy_to_lose(place, risk, drop)
    size = risk.theta.abs()

    def reaches(alpha: float) -> bool:
        radius = alpha * size + _EPSILON if magnitude_aware else torch.full_like(size, alpha)
        worst = _ascent(risk, radius, num_steps, accuracy - drop)
        return accuracy - worst >= drop

    low, high = bracket(place, reaches, _start(risk, magnitude_aware), 1 + rtol, drop)
    alpha = math.sqrt(low * high)
    value = alpha**-2
    stats = {
        "alpha": alpha,
        "bracket": [low, high],
        "accuracy": accuracy,
        "as_reported": math.sqrt(value / checkpoint.num_training_examples),
    }
    return Estimate(value, (low**-2 - high**-2) / 2, warnings=found.warnings, stats=stats)


def _scale(
    place: str,
    found: Folded,
    drop: float,
    num_draws: int,
    magnitude_aware: bool,
    generator: Generator,
) -> NoiseScale:
    if num_draws < 2:
        raise InputError(f"{place}.num_draws", str(num_draws), "at least 2", "raise it")
    risk = found.checkpoint.risk
    return noise_scale(
        place,
        risk,
        _widths(risk, magnitude_aware),
        start=10 * _start(risk, magnitude_aware),
        drop=drop,
        num_draws=num_draws,
        generator=generator,
    )


def _widths(risk: EmpiricalRisk, magnitude_aware: bool) -> Widths:
    theta = risk.theta
    if magnitude_aware:
        return lambda scale: (scale**2 * theta.square() + _EPSILON**2).sqrt()
    return lambda scale: torch.full_like(theta, scale)


def _start(risk: EmpiricalRisk, magnitude_aware: bool) -> float:
    """A tenth of the parameters' size: where the search for a worst perturbation begins."""
    size = 1.0 if magnitude_aware else float(risk.theta.double().square().mean().sqrt())
    return 0.1 * (size or 1.0)


def _search_stats(scale: NoiseScale, num_draws: int) -> dict[str, Any]:
    return {
        "bracket": [scale.low, scale.high],
        "drops": [scale.drop_low, scale.drop_high],
        "accuracy": scale.accuracy,
        "num_draws": num_draws,
    }


def _way(checkpoint: Checkpoint, reference: str) -> Float[Tensor, " P"]:
    theta = checkpoint.risk.theta.double()
    if reference == "origin":
        return theta
    return theta - checkpoint.initial_for("pac_bayes.bound").double()


def _divergence(way: Float[Tensor, " P"], at: Float[Tensor, ""]) -> Float[Tensor, ""]:
    return way.square().sum() / (4 * at.square())


def _magnitude_divergence(way: Float[Tensor, " P"], at: Float[Tensor, ""]) -> Float[Tensor, ""]:
    squares, variance = way.square(), at.square()
    above = _EPSILON**2 + (variance + 1) * squares.mean()
    return (above / (_EPSILON**2 + variance * squares)).log().sum() / 4


def _ascent(
    risk: EmpiricalRisk, radius: Float[Tensor, " P"], num_steps: int, target: float
) -> float:
    """The lowest accuracy on the way up, which ends at the target."""
    theta, accuracy = risk.theta, 1.0
    for _ in range(num_steps):
        gradient, here = _gradient_and_accuracy(risk, theta)
        accuracy = min(accuracy, here)
        if accuracy <= target:
            return accuracy
        # Steps of 2.5 radii in all: enough to cross the box and to turn back.
        u = theta - risk.theta + 2.5 / num_steps * radius * gradient.sign()
        theta = risk.theta + u.clamp(-radius, radius)
    return min(accuracy, float(accuracies_at(risk, theta[None])))


def _gradient_and_accuracy(
    risk: EmpiricalRisk, theta: Float[Tensor, " P"]
) -> tuple[Float[Tensor, " P"], float]:
    """Of the summed loss, without weight decay, in one pass."""

    def loss(theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = risk.outputs(theta, x)
        return risk.loss.values(outputs, y).sum(), outputs

    total, correct = torch.zeros_like(theta, dtype=torch.float64), 0
    for x, y in risk.batches():
        gradient, outputs = torch.func.grad(loss, has_aux=True)(theta, x, y)
        total += gradient
        correct += int((outputs.argmax(1) == y).sum())
    return total.to(theta), correct / risk.num_examples
