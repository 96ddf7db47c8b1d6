"""Correlations with bootstrap intervals, fast enough for a whole table of measures.

They equal `bootstrap` of the functions in `rank` with the same seed, but all resamples are
computed at once from their multiplicities.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gentheory.stats import rank, weighted
from gentheory.stats.columns import cluster_indices, finite_columns
from gentheory.stats.resample import Interval, draw_counts

_PARTIAL = (
    ("kendall", rank.partial_kendall, weighted.partial_kendall),
    ("spearman", rank.partial_spearman, weighted.partial_spearman),
    ("pearson", rank.partial_pearson, weighted.partial_pearson),
)


def kendall_interval(
    x: ArrayLike,
    y: ArrayLike,
    *,
    given: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """`bootstrap` of `kendall(x, y)`, or of `partial_kendall(x, y, given)`, all draws at once.

    K resamples of N rows cost O(K N²) operations, as matrix products in bounded memory. Raises
    `InputError` as those functions do.
    """
    resampling = (clusters, num_resamples, level, seed)
    if given is None:
        return _interval(rank.kendall, weighted.kendall, {"x": x, "y": y}, *resampling)
    columns = {"x": x, "y": y, "given": given}
    return _interval(rank.partial_kendall, weighted.partial_kendall, columns, *resampling)


def correlate(
    x: ArrayLike,
    y: ArrayLike,
    *,
    given: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of `kendall`, `spearman`, `pearson` and, with `given`, of their partial forms.

    The keys are the functions' names, `partial_kendall` and so on for the partial forms. All of
    them see the same resamples. Columns have shape [N]; what is undefined is nan. Raises
    `InputError` as `bootstrap` and `kendall` do.
    """
    resampling = (clusters, num_resamples, level, seed)
    pair = {"x": x, "y": y}
    intervals = {
        "kendall": _interval(rank.kendall, weighted.kendall, pair, *resampling),
        "spearman": _interval(rank.spearman, weighted.spearman, pair, *resampling),
        "pearson": _interval(rank.pearson, weighted.pearson, pair, *resampling),
    }
    if given is not None:
        triple = pair | {"given": given}
        intervals |= {
            f"partial_{name}": _interval(value, resampled, triple, *resampling)
            for name, value, resampled in _PARTIAL
        }
    return intervals


def _interval(
    statistic: Callable[..., float],
    resampled: Callable[..., NDArray[np.float64]],
    columns: Mapping[str, ArrayLike],
    clusters: ArrayLike | None,
    num_resamples: int,
    level: float,
    seed: int,
) -> Interval:
    """`bootstrap` of `statistic`, which `resampled` computes for a chunk of multiplicities."""
    arrays = finite_columns(columns)
    prepared = [weighted.Column.of(array) for array in arrays]
    labels = cluster_indices(clusters, len(arrays[0]))
    chunks = draw_counts(labels, num_resamples, seed=seed)
    samples = np.concatenate([np.empty(0), *(resampled(counts, *prepared) for counts in chunks)])
    return Interval.from_resamples(statistic(*arrays), samples, count=len(labels), level=level)
