"""How well the cheap rungs of TIC's ladder stand for the exact one, within each setting."""

from typing import Any

import numpy as np
import pandas as pd

from gentheory.report.population import MIN_MODELS, Population, clusters, is_predicted_gap
from gentheory.report.ranking import Column, Resampling, interval_columns
from gentheory.stats import Interval, correlate, weighted
from gentheory.stats.columns import cluster_indices
from gentheory.stats.resample import draw_counts

REFERENCE = "tic.exact"
_HELD_OUT = ":held-out"
_STATISTICS = ("spearman", "kendall", "ratio")


def ladder(population: Population, resampling: Resampling) -> pd.DataFrame:
    """Rank correlation and relative size of every predicted gap with `tic.exact`, by setting.

    One row a setting and predictor with the columns `setting`, `predictor`, `kind`, `count`
    (models for which both have a number, the exact one above 0) and `note` ("too few", "constant"
    or ""). `spearman`, `kendall` and `ratio`, the median over models of predictor / reference,
    have 95 % bootstrap bounds `.low` and `.high` over the hyper-parameter points. What was
    measured on held-out examples is compared with `tic.exact` there. Empty where `tic.exact` was
    not measured.
    """
    rows: list[dict[str, Any]] = []
    for setting in population.settings:
        frame = population.ranked.loc[population.ranked["setting"] == setting]
        for name, reference in _pairs(population.measures):
            rows.append({"setting": setting, **_row(frame, name, reference, resampling)})
    columns = ["setting", "predictor", "kind", "count", "note"]
    columns += [
        f"{s}{end}" for s in ("spearman", "kendall", "ratio") for end in ("", ".low", ".high")
    ]
    return pd.DataFrame(rows, columns=columns)


def _pairs(measures: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each predicted gap with the exact one on the same examples."""
    found: list[tuple[str, str]] = []
    for name in filter(is_predicted_gap, measures):
        reference = REFERENCE + _HELD_OUT * name.endswith(_HELD_OUT)
        if reference in measures and name != reference:
            found.append((name, reference))
    return found


def _row(frame: pd.DataFrame, name: str, reference: str, resampling: Resampling) -> dict[str, Any]:
    x, y = (np.asarray(frame[column], dtype=float) for column in (name, reference))
    kept = np.isfinite(x) & np.isfinite(y) & (y > 0)
    x, y = x[kept], y[kept]
    row: dict[str, Any] = {"predictor": name, "kind": "predicted gap", "count": len(x)}
    row["note"] = "too few" if len(x) < MIN_MODELS else ""
    if not row["note"] and (np.ptp(x) == 0 or np.ptp(y) == 0):
        row["note"] = "constant"
    found: dict[str, Interval] = {}
    if not row["note"]:
        drawn: Resampling = {**resampling, "clusters": clusters(frame.loc[kept])}
        found = correlate(x, y, **drawn) | {"ratio": _ratio(x / y, drawn)}
    for statistic in _STATISTICS:
        row |= interval_columns(statistic, found.get(statistic))
    return row


def _ratio(ratios: Column, resampling: Resampling) -> Interval:
    """The median, with its bootstrap."""
    labels = cluster_indices(resampling.get("clusters"), len(ratios))
    draws = draw_counts(labels, resampling["num_resamples"], seed=resampling["seed"])
    samples = np.concatenate([np.empty(0), *(weighted.median(c, ratios) for c in draws)])
    value = float(np.median(ratios))
    return Interval.from_resamples(value, samples, count=len(ratios), level=0.95)
