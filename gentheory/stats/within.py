"""Statistics of groups of rows, such as the checkpoints of one model, and their mean over groups.

The groups are what is drawn again and again, never their rows, which depend on one another.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gentheory.errors import InputError
from gentheory.stats.columns import cluster_indices, finite_columns, label_indices
from gentheory.stats.rank import kendall
from gentheory.stats.resample import Interval, draw_counts


def kendall_within(x: ArrayLike, y: ArrayLike, groups: ArrayLike) -> NDArray[np.float64]:
    """Kendall's tau-b over the rows of each group, in the rising order of their labels; shape [G].

    It is nan for a group of fewer than three rows, or in which a column is constant. Columns and
    `groups` have shape [N]. Raises `InputError` as `kendall` and `label_indices` do.
    """
    x, y = finite_columns({"x": x, "y": y})
    labels = label_indices("groups", groups, len(x))
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(x) else []
    return np.array([kendall(x[part], y[part]) for part in parts], dtype=np.float64)


def mean_interval(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of a column [N] with its percentile bootstrap, all resamples at once.

    Entries that are nan are no rows, and leave the interval's `count`. With `clusters`, one label
    for each row, whole clusters are drawn. `stderr` covers the draw of the rows or clusters.
    Raises `InputError` as `bootstrap` does, and for infinite entries.
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise InputError("values", f"shape {column.shape}", "one dimension", "flatten it")
    known = ~np.isnan(column)
    (kept,) = finite_columns({"values": column[known]})
    labels = None if clusters is None else np.asarray(clusters)[known]
    if not len(kept):
        return Interval.from_resamples(np.nan, kept, count=0, level=level)
    chunks = draw_counts(cluster_indices(labels, len(kept)), num_resamples, seed=seed)
    means = [counts @ kept / counts.sum(axis=1) for counts in chunks]
    samples = np.concatenate([np.empty(0), *means])
    return Interval.from_resamples(float(kept.mean()), samples, count=len(kept), level=level)
