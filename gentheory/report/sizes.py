"""Whether a predicted gap has the right size: its median over the median of the measured gap."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.report.population import MIN_MODELS, Population, clusters, is_predicted_gap
from gentheory.report.ranking import Resampling, interval_columns
from gentheory.stats import Interval, weighted
from gentheory.stats.columns import cluster_indices
from gentheory.stats.resample import draw_counts


def sizes(population: Population, resampling: Resampling) -> pd.DataFrame:
    """One row a setting and predicted gap: `count`, `note`, both medians and their ratio.

    `ratio`, `ratio.low`, `ratio.high`: median predicted gap / median measured gap with its 95 %
    percentile bootstrap interval over the hyper-parameter points; no number where there are too
    few models or the median gap is not positive.
    """
    rows: list[dict[str, Any]] = []
    for setting, frame in population.groups():
        for measure in filter(is_predicted_gap, population.measures):
            predicted = np.asarray(frame[measure], dtype=float)
            kept = np.isfinite(predicted)
            gap = np.asarray(frame["gap"], dtype=float)[kept]
            drawn: Resampling = {**resampling, "clusters": clusters(frame.loc[kept])}
            row = {"setting": setting, "predictor": measure, "count": int(kept.sum())}
            rows.append(row | _ratio(predicted[kept], gap, drawn))
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = [
    *("setting", "predictor", "count", "note", "median_predicted", "median_gap"),
    *("ratio", "ratio.low", "ratio.high"),
]


def _ratio(
    predicted: NDArray[np.float64], gap: NDArray[np.float64], resampling: Resampling
) -> dict[str, Any]:
    if len(gap) < MIN_MODELS:
        return {"note": "too few", **interval_columns("ratio", None)}
    medians = {"median_predicted": np.median(predicted), "median_gap": np.median(gap)}
    if medians["median_gap"] <= 0:
        return {"note": "gap not positive", **medians, **interval_columns("ratio", None)}
    interval = ratio_interval(predicted, gap, **resampling)
    return {"note": "", **medians, **interval_columns("ratio", interval)}


def ratio_interval(
    predicted: NDArray[np.float64],
    gap: NDArray[np.float64],
    *,
    clusters: NDArray[np.intp] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """`bootstrap` of `ratio` with the same seed, all resamples at once."""
    chunks = draw_counts(cluster_indices(clusters, len(gap)), num_resamples, seed=seed)
    samples = [
        weighted.median(counts, predicted) / _nonzero(weighted.median(counts, gap))
        for counts in chunks
    ]
    value = ratio(predicted, gap)
    joined = np.concatenate([np.empty(0), *samples])
    return Interval.from_resamples(value, joined, count=len(gap), level=0.95)


def _nonzero(column: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(column == 0, np.nan, column)


def ratio(predicted: NDArray[np.float64], gap: NDArray[np.float64]) -> float:
    """median(predicted) / median(gap); nan where the median gap is 0. Columns have shape [N]."""
    middle = float(np.median(gap))
    return float(np.median(predicted)) / middle if middle else np.nan
