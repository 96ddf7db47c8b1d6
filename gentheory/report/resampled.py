"""Statistics with their values on common resamples: correlations, differences, means."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from gentheory.stats import Interval, kendall, pearson, spearman, weighted
from gentheory.stats.columns import cluster_indices
from gentheory.stats.rank import partial_correlation
from gentheory.stats.resample import Counts, draw_counts

Samples = tuple[float, NDArray[np.float64]]
"""A statistic, and its values on the resamples [K]."""

_LEVEL = 0.95


class Resampled:
    """Columns [N] whose rows, or whole `clusters` of them, are drawn with replacement.

    What it gives equals `bootstrap` of the functions of the same name with the same seed.
    """

    def __init__(
        self,
        columns: Mapping[str, NDArray[np.float64]],
        *,
        clusters: NDArray[np.intp] | None = None,
        num_resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.columns = columns
        self.num_rows = len(next(iter(columns.values())))
        labels = cluster_indices(clusters, self.num_rows)
        self._clusters = None if clusters is None else labels
        self._counts = drawn(clusters, self.num_rows, num_resamples=num_resamples, seed=seed)
        self._prepared: dict[str, weighted.Column] = {}
        self._taus: dict[tuple[str, str], Samples] = {}

    def kendall(self, one: str, other: str) -> Samples:
        """Kendall's tau of two columns."""
        key = (min(one, other), max(one, other))
        if key not in self._taus:
            pair = self._column(one), self._column(other)
            samples = weighted.kendall(self._counts, *pair, clusters=self._clusters)
            self._taus[key] = kendall(self.columns[one], self.columns[other]), samples
        return self._taus[key]

    def partial_kendall(self, one: str, other: str, given: str) -> Samples:
        """Kendall's tau of two columns given a third."""
        found = [self.kendall(*pair) for pair in ((one, other), (one, given), (other, given))]
        value = partial_correlation(*(np.array([tau]) for tau, _ in found))
        return float(value[0]), partial_correlation(*(samples for _, samples in found))

    def spearman(self, one: str, other: str) -> Samples:
        """Spearman's rho of two columns."""
        return self._moment(spearman, weighted.spearman, one, other)

    def pearson(self, one: str, other: str) -> Samples:
        """Pearson's r of two columns."""
        return self._moment(pearson, weighted.pearson, one, other)

    def interval(self, samples: Samples) -> Interval:
        """The 95 % percentile interval."""
        return interval(samples, self.num_rows)

    def _moment(
        self,
        statistic: Callable[..., float],
        resampled: Callable[..., NDArray[np.float64]],
        one: str,
        other: str,
    ) -> Samples:
        pair = self._column(one), self._column(other)
        value = statistic(self.columns[one], self.columns[other])
        return value, resampled(self._counts, *pair)

    def _column(self, name: str) -> weighted.Column:
        if name not in self._prepared:
            self._prepared[name] = weighted.Column.of(self.columns[name])
        return self._prepared[name]


def drawn(
    clusters: NDArray[np.intp] | None, num_rows: int, *, num_resamples: int, seed: int
) -> Counts:
    """What `draw_counts` gives, all of it; no resamples where there is one cluster."""
    draws = draw_counts(cluster_indices(clusters, num_rows), num_resamples, seed=seed)
    return np.concatenate([np.empty((0, num_rows)), *draws])


def interval(samples: Samples, count: int) -> Interval:
    """The 95 % percentile interval of a statistic of `count` rows."""
    return Interval.from_resamples(*samples, count=count, level=_LEVEL)


def mean(found: Iterable[Samples]) -> Samples | None:
    """The mean over settings of those that have a number; None where none has.

    A setting that a resample leaves undefined drops out of that resample's mean.
    """
    known = [(value, samples) for value, samples in found if np.isfinite(value)]
    if not known:
        return None
    columns = np.ma.masked_invalid([samples for _, samples in known])
    samples = np.asarray(columns.mean(axis=0).filled(np.nan), dtype=float)
    return float(np.mean([value for value, _ in known])), samples


def difference(one: Samples, other: Samples) -> Samples:
    """What the first statistic is more than the second, resample by resample."""
    return one[0] - other[0], one[1] - other[1]
