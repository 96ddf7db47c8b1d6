"""Bootstrap intervals of a statistic of a table's rows (Efron 1979), or of clusters of rows.

Rows that share a seed or a data set are not independent: give their common label as a cluster,
and the bootstrap draws whole clusters with replacement (Davison and Hinkley 1997, section 3.8).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

from gentheory.errors import InputError
from gentheory.stats.columns import cluster_indices, same_length

Counts = NDArray[np.float64]
"""Multiplicities, whole numbers as floats, of shape [K, N]: K resamples of N rows."""

_MAX_COUNTS = 2**22
"""Entries of one chunk of multiplicities: 32 MiB."""


@dataclass(frozen=True)
class Interval:
    """A statistic with the interval that a bootstrap or a jackknife gives it."""

    value: float
    """The statistic of the rows themselves; nan where it is undefined."""
    low: float
    high: float
    """The bootstrap's percentiles (1 - level)/2 and (1 + level)/2; of a jackknife, the normal
    law's, value ± z · stderr."""
    stderr: float
    """Standard deviation of the resampled statistic: it covers the draw of the rows or clusters."""
    count: int
    """Rows that the statistic was computed from."""
    level: float

    @classmethod
    def from_resamples(
        cls, value: float, samples: NDArray[np.float64], *, count: int, level: float
    ) -> "Interval":
        """Summarize the statistic's values on the resamples, shape [K].

        Those that are not finite are left out; where they are more than half of all, or fewer
        than two remain, `low`, `high` and `stderr` are nan. Raises `InputError` for a level
        outside (0, 1).
        """
        if not 0 < level < 1:
            raise InputError("level", str(level), "a fraction between 0 and 1", "give 0.95")
        kept = samples[np.isfinite(samples)]
        if len(kept) < max(2, len(samples) / 2):
            return cls(value, math.nan, math.nan, math.nan, count, level)
        low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
        return cls(value, float(low), float(high), float(kept.std(ddof=1)), count, level)

    @classmethod
    def from_jackknife(
        cls, value: float, left_out: NDArray[np.float64], *, count: int, level: float
    ) -> "Interval":
        """value ± z · √((G - 1)/G Σ (v_g - mean v)²), v [G] the statistic without one of G groups.

        Groups without which the statistic is not finite are left out; where they are more than
        half of all, or fewer than two remain, `low`, `high` and `stderr` are nan. Raises
        `InputError` for a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise InputError("level", str(level), "a fraction between 0 and 1", "give 0.95")
        kept = left_out[np.isfinite(left_out)]
        if len(kept) < max(2, len(left_out) / 2):
            return cls(value, math.nan, math.nan, math.nan, count, level)
        stderr = float(np.sqrt(len(kept) - 1) * kept.std())
        reach = float(norm.ppf((1 + level) / 2)) * stderr
        return cls(value, value - reach, value + reach, stderr, count, level)


def bootstrap(
    statistic: Callable[..., float],
    *columns: ArrayLike,
    clusters: ArrayLike | None = None,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of `statistic(*columns)`, whose rows are drawn jointly.

    Columns have shape [N] and any dtype. Repeated rows stand together in the resample, in the
    order of the original. With `clusters`, one label for each row, whole clusters are drawn, so
    that resamples differ in length where clusters do. With a single row or cluster, `low`,
    `high` and `stderr` are nan: it says nothing about the spread. Raises `InputError` for
    columns that are not 1-D or differ in length, unusable labels, fewer than 2 resamples or a
    level outside (0, 1).
    """
    arrays = [np.asarray(column) for column in columns]
    count = same_length({f"columns[{place}]": array for place, array in enumerate(arrays)})
    chunks = draw_counts(cluster_indices(clusters, count), num_resamples, seed=seed)
    samples = [
        float(statistic(*(array[rows] for array in arrays)))
        for counts in chunks
        for rows in (np.repeat(np.arange(count), row.astype(np.intp)) for row in counts)
    ]
    value = float(statistic(*arrays))
    return Interval.from_resamples(value, np.array(samples), count=count, level=level)


def expanded_level(level: float, count: int) -> float:
    """The level of the percentiles that are to stand for `level` where few rows are drawn.

    2 Φ(√(N/(N-1)) t) - 1 with t Student's quantile (1 + level)/2 at N-1 degrees of freedom: for
    the mean of N normal numbers the percentile interval is then about as wide as Student's, where
    N is not so small that the resamples end before (Hesterberg 2015, What Teachers Should Know
    About the Bootstrap, section 4.1). Raises `InputError` for fewer than two rows.

    >>> round(expanded_level(0.95, 5), 4), round(expanded_level(0.95, 1000), 4)
    (0.9981, 0.9504)
    """
    if count < 2:
        raise InputError("count", str(count), "at least 2 rows", "give more")
    reach = math.sqrt(count / (count - 1)) * t.ppf((1 + level) / 2, count - 1)
    return float(2 * norm.cdf(reach) - 1)


def draw_counts(clusters: NDArray[np.intp], num_resamples: int, *, seed: int) -> Iterator[Counts]:
    """Multiplicities [K, N] of the rows in `num_resamples` resamples, in chunks of bounded size.

    `clusters` holds each row's cluster, 0 … G-1, shape [N]; a resample draws G of them with
    replacement, and the k-th depends on the seed, k and G alone. Nothing comes where G < 2.
    Raises `InputError` for fewer than 2 resamples.
    """
    if num_resamples < 2:
        raise InputError("num_resamples", str(num_resamples), "at least 2", "give 1000")
    num_clusters = clusters.max(initial=-1) + 1
    if num_clusters < 2:
        return
    generator = np.random.default_rng(seed)
    step = max(1, _MAX_COUNTS // len(clusters))
    for start in range(0, num_resamples, step):
        rows = min(step, num_resamples - start)
        drawn = generator.integers(num_clusters, size=(rows, num_clusters))
        # One count over all rows at once: row k's clusters are numbered from k · G on.
        numbered = drawn + num_clusters * np.arange(rows)[:, None]
        counts = np.bincount(numbered.ravel(), minlength=rows * num_clusters)
        yield counts.reshape(rows, num_clusters)[:, clusters].astype(float)
