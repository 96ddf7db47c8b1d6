"""Error of the mean over Markov chains, and whether they agree (Vehtari et al. 2021).

Each chain is cut in two halves, so that a drift shows as chains that differ. Autocorrelations are
summed as far as Geyer's initial monotone sequence goes.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gentheory.errors import InputError

_SHORTEST = 8
"""Draws of a chain: halves below four have no autocorrelation to speak of."""


@dataclass(frozen=True)
class ChainMean:
    """A mean over K chains of T draws each, with what there is to know of its error."""

    value: float
    stderr: float
    """Monte Carlo error: √(variance / effective size), autocorrelation counted."""
    effective_size: float
    """Independent draws that would be worth as much; above K · T where draws alternate."""
    rhat: float
    """√(variance of all draws / variance within half chains); 1 where all chains agree."""
    drift: float
    """Second half less first half of the draws, in standard errors of that difference."""


def chain_mean(draws: ArrayLike) -> ChainMean:
    """The mean of draws [K, T]. Raises `InputError` for fewer than 8 draws a chain."""
    x = np.asarray(draws, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < _SHORTEST:
        raise InputError("draws", f"shape {x.shape}", "[K, T] with T of 8 or more", "draw more")
    half = x.shape[1] // 2
    halves = x[:, :half], x[:, -half:]
    split = np.concatenate(halves)
    within = split.var(axis=1, ddof=1).mean()
    pooled = (half - 1) / half * within + split.mean(axis=1).var(ddof=1)
    if not pooled > 0:  # constant, or not finite
        return ChainMean(float(x.mean()), float(pooled), float(x.size), 1.0, 0.0)
    size = x.size / _correlation_time(split, float(within), float(pooled))
    first, second = (_mean_variance(part) for part in halves)
    return ChainMean(
        float(x.mean()),
        math.sqrt(pooled / size),
        float(size),
        math.sqrt(pooled / within) if within > 0 else math.inf,
        (second[0] - first[0]) / math.sqrt(first[1] + second[1]),
    )


def _mean_variance(x: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of chains [K, T], and the variance of that mean."""
    count = x.shape[1]
    within = x.var(axis=1, ddof=1).mean()
    between = x.mean(axis=1).var(ddof=1) if len(x) > 1 else 0.0
    pooled = (count - 1) / count * within + between
    time = _correlation_time(x, float(within), float(pooled)) if pooled > 0 else 1.0
    return float(x.mean()), float(max(pooled, np.finfo(float).tiny) * time / x.size)


def _correlation_time(x: NDArray[np.float64], within: float, pooled: float) -> float:
    """1 + 2 Σ ρ_t, by Geyer's initial monotone sequence over pairs of lags."""
    count = x.shape[1]
    mean_covariance = _autocovariances(x).mean(axis=0)
    rho = 1 - (within - mean_covariance * count / (count - 1)) / pooled
    rho[0] = 1.0
    pairs = rho[: count // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    kept = np.minimum.accumulate(pairs[: ends[0]] if len(ends) else pairs)
    # Alternating draws may be worth more than independent ones, but not without bound.
    return max(2 * float(kept.sum()) - 1, 1 / math.log10(max(x.size, 10)))


def _autocovariances(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each chain at lags 0 to T - 1, divided by T."""
    count = x.shape[1]
    spectrum = np.fft.rfft(x - x.mean(axis=1, keepdims=True), n=2 * count, axis=1)
    return np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :count] / count
