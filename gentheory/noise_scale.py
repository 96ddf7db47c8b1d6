"""How much noise on the parameters costs a stated drop of the accuracy."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.predictions import accuracies_at, check_classes
from gentheory.risk import EmpiricalRisk

_NUMBERS = 2**22
"""Numbers in the perturbed parameters at hand at once."""
_KEPT = 2**24
"""Numbers in the draws that are kept from one scale to the next; more are drawn anew."""
_DOUBLINGS = 20
_RATIO = 1.2

Widths = Callable[[float], Float[Tensor, " P"]]
"""Scale -> standard deviation of the noise on each parameter."""


@dataclass(frozen=True)
class NoiseScale:
    """The scale at which the mean accuracy has dropped by the target, over the draws of noise."""

    value: float
    stderr: float
    """To first order: standard error of the mean drop over its slope. Covers the draws."""
    low: float
    drop_low: float
    high: float
    drop_high: float
    accuracy: float
    """Without noise."""


def accuracy_to_lose(place: str, risk: EmpiricalRisk, drop: float) -> float:
    """Accuracy at the risk's parameters. Raises `InputError` where it cannot drop by so much."""
    check_classes(place, risk)
    accuracy = float(accuracies_at(risk, risk.theta[None]))
    if accuracy <= drop:
        raise InputError(
            place, f"an accuracy of {accuracy:.3g}", f"more than {drop}", "lower `drop`"
        )
    return accuracy


def bracket(
    place: str, reaches: Callable[[float], bool], start: float, ratio: float, drop: float
) -> tuple[float, float]:
    """Scales of at most this ratio, the drop reached at the upper one alone.

    By doubling or halving, then bisection. Raises `InputError` naming `place` where there are none.
    """
    scale, reached = start, reaches(start)
    for _ in range(_DOUBLINGS):
        step = scale / 2 if reached else scale * 2
        if reaches(step) != reached:
            break
        scale = step
    else:
        raise _unreachable(place, scale, drop, reached)
    low, high = (scale / 2, scale) if reached else (scale, scale * 2)
    while high / low > ratio:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return low, high


def noise_scale(
    place: str,
    risk: EmpiricalRisk,
    widths: Widths,
    *,
    start: float,
    drop: float,
    num_draws: int,
    generator: Generator,
) -> NoiseScale:
    """σ with mean over draws u of accuracy(θ + widths(σ) u) = accuracy(θ) − drop, u ~ N(0, I).

    The same draws at every scale, so that the drop is nearly monotone in it. A few of them find
    the neighbourhood, by doubling from `start` and bisecting; all of them then bracket σ, and a
    Newton step with the slope of the bracket ends it: the resolution is that of the draws, beyond
    which bisection would only resolve their noise. Raises `InputError` naming `place` where no
    scale gives that drop.
    """
    accuracy = accuracy_to_lose(place, risk, drop)
    seeds: list[int] = torch.randint(2**62, (num_draws,), generator=generator).tolist()

    def draw(index: int) -> Float[Tensor, " P"]:
        """From a seed of its own: the same in chunks of any size."""
        return _noise(risk, seeds[index])

    if num_draws * risk.num_params <= _KEPT:
        draw = cache(draw)

    def drop_at(scale: float, count: int) -> Estimate:
        drops = accuracy - _noisy_accuracies(risk, widths(scale), draw, count)
        return Estimate.from_samples(drops)

    few = min(num_draws, max(8, num_draws // 8))
    near = math.sqrt(
        math.prod(bracket(place, lambda s: drop_at(s, few).value >= drop, start, _RATIO, drop))
    )
    ends = {s: drop_at(s, num_draws) for s in (near / _RATIO, near * _RATIO)}
    low, high = _passed(place, ends, lambda s: drop_at(s, num_draws), drop)
    slope = (ends[high].value - ends[low].value) / math.log(high / low)
    middle = low * math.exp((drop - ends[low].value) / slope)
    last = drop_at(middle, num_draws)
    value = min(max(middle * math.exp((drop - last.value) / slope), low), high)
    stderr = value * last.stderr / slope
    return NoiseScale(value, stderr, low, ends[low].value, high, ends[high].value, accuracy)


def _noisy_accuracies(
    risk: EmpiricalRisk,
    width: Float[Tensor, " P"],
    draw: Callable[[int], Float[Tensor, " P"]],
    count: int,
) -> Float[Tensor, " K"]:
    size = max(1, _NUMBERS // risk.num_params)
    parts: list[Tensor] = []
    for first in range(0, count, size):
        noise = torch.stack([draw(k) for k in range(first, min(first + size, count))])
        parts.append(accuracies_at(risk, noise.mul_(width).add_(risk.theta)))
    return torch.cat(parts)


def _noise(risk: EmpiricalRisk, seed: int) -> Float[Tensor, " P"]:
    drawn = torch.randn(
        risk.num_params, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return drawn.to(risk.theta)


def _passed(
    place: str, ends: dict[float, Estimate], drop_at: Callable[[float], Estimate], drop: float
) -> tuple[float, float]:
    """Scales between which the mean drop passes the target; what is measured goes into `ends`."""
    low, high = min(ends), max(ends)
    for _ in range(_DOUBLINGS):
        if ends[low].value < drop <= ends[high].value:
            return low, high
        if ends[low].value >= drop:
            low, high = low / _RATIO, low
            ends[low] = drop_at(low)
        else:
            low, high = high, high * _RATIO
            ends[high] = drop_at(high)
    raise _unreachable(place, low, drop, ends[low].value >= drop)


def _unreachable(place: str, scale: float, drop: float, above: bool) -> InputError:
    return InputError(
        place,
        f"a drop of the accuracy {'above' if above else 'below'} {drop} at scale {scale:.3g}",
        "one that passes it on the way",
        "train the net, or change `drop`",
    )
