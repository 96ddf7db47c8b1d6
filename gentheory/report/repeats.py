"""Means over models that share repeats, such as seeds: the repeats are what is drawn again."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.report.population import MIN_MODELS
from gentheory.report.resampled import Samples
from gentheory.stats import Interval
from gentheory.stats.resample import draw_counts, expanded_level

Column = NDArray[np.float64]

MIN_REPEATS = MIN_MODELS
"""Fewer have no interval. That of five normal numbers has their mean in it 91 times in a hundred,
that of eight 94 times, where percentiles that are not expanded have it 84 and 89 times."""
_LEVEL = 0.95


def repeats(models: pd.DataFrame) -> NDArray[np.str_]:
    """What each model shares with those of other settings: its draw or else its seed; shape [M]."""
    drawn = "draw" in models and bool(models["draw"].notna().any())
    return np.array([str(label) for label in models["draw" if drawn else "seed"]], dtype=str)


@dataclass(frozen=True)
class Repeated:
    """Resamples of the repeats, the same ones for every group: what they share is paired."""

    labels: NDArray[np.str_]
    counts: Column
    """How often each repeat is in each resample, [K, G]."""

    @classmethod
    def of(cls, labels: NDArray[np.str_], *, num_resamples: int, seed: int) -> "Repeated":
        """Resamples of the distinct ones among these labels."""
        known = np.unique(labels)
        none = np.empty((0, len(known)))
        drawn = draw_counts(np.arange(len(known)), num_resamples, seed=seed)
        return cls(known, np.concatenate([none, *drawn]))

    def mean(self, values: Column, labels: NDArray[np.str_]) -> Samples:
        """The mean of values [M], and those of the resamples."""
        place = np.searchsorted(self.labels, labels)
        size = len(self.labels)
        sums = self.counts @ np.bincount(place, values, size)
        totals = self.counts @ np.bincount(place, minlength=size).astype(float)
        means = np.divide(sums, totals, out=np.full(len(sums), np.nan), where=totals > 0)
        return (float(values.mean()) if len(values) else np.nan), means


def interval(samples: Samples, *, num_repeats: int, count: int) -> Interval:
    """The expanded 95 % percentile interval; without ends for fewer than `MIN_REPEATS`."""
    value, resampled = samples
    if num_repeats < MIN_REPEATS:
        return Interval(value, np.nan, np.nan, np.nan, count, _LEVEL)
    level = expanded_level(_LEVEL, num_repeats)
    return Interval.from_resamples(value, resampled, count=count, level=level)


def mean_over(
    values: Column, labels: NDArray[np.str_], *, num_resamples: int, seed: int
) -> Interval:
    """The mean of one group; entries that are nan are no rows."""
    known = np.isfinite(values)
    values, labels = values[known], labels[known]
    drawn = Repeated.of(labels, num_resamples=num_resamples, seed=seed)
    num_repeats = len(drawn.labels)
    return interval(drawn.mean(values, labels), num_repeats=num_repeats, count=len(values))
