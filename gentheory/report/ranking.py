"""How well measures and trivial baselines rank the gap and the test loss: tables of tau."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.report.population import (
    MIN_MODELS,
    Population,
    clusters,
    is_predicted_gap,
    is_rival,
)
from gentheory.stats import Interval, correlate, kendall, kendall_interval, weighted
from gentheory.stats.columns import cluster_indices
from gentheory.stats.resample import draw_counts

Column = NDArray[np.float64]

MINUS_TRAINING_LOSS = "minus training loss"
TRAINING_LOSS = "training loss"
TIME = "learning-rate time T"
GAP_BASELINES = (MINUS_TRAINING_LOSS, TIME)
STATISTICS = ("kendall", "partial_kendall", "spearman", "pearson")

_LEVEL = 0.95


class Resampling(TypedDict):
    """How the bootstrap draws."""

    num_resamples: int
    seed: int
    clusters: NotRequired[NDArray[np.intp] | None]


def correlations(population: Population, resampling: Resampling) -> pd.DataFrame:
    """Rank and linear correlation of every predictor with the gap, overall and by setting.

    One row a setting and predictor: `setting`, `predictor`, `kind` (baseline, predicted gap,
    measure), `count` (models with a number), `note` ("too few", "constant" or ""), and for each
    of kendall, partial_kendall (given the training loss), spearman, pearson and lead the
    columns `<name>`, `<name>.low`, `<name>.high`: 95 % percentile bootstrap over the
    hyper-parameter points (`clusters`).
    `rival` names the better trivial baseline, `rival_tau` is its tau on the same models, and
    `lead` is the predictor's tau less that one, on the same resamples.
    """
    rows: list[dict[str, Any]] = []
    for setting, frame in population.groups():
        predictors = gap_predictors(frame, population.measures)
        baselines = {name: predictors[name] for name in GAP_BASELINES}
        for name, values in predictors.items():
            row = {"setting": setting, "predictor": name, "kind": kind(name)}
            rivals = {} if name in baselines else baselines
            rows.append(row | _scores(frame, name, values, "gap", rivals, resampling))
    return pd.DataFrame(rows)


def criteria(population: Population, resampling: Resampling) -> pd.DataFrame:
    """The same table for the order of the test loss: training loss, with and without a gap.

    Predictors are the training loss alone, the learning-rate time, the rivals (of kind "rival")
    as they are, and the training loss plus each predicted gap; `lead` is measured against the
    training loss alone. `clean_kendall`: tau with the loss on correctly labelled test data, in
    settings with label noise.
    """
    rows: list[dict[str, Any]] = []
    for setting, frame in population.groups():
        predictors = loss_predictors(frame, population.measures, population.rivals)
        for name, values in predictors.items():
            row = {"setting": setting, "predictor": name, "kind": kind(name)}
            rivals = {TRAINING_LOSS: predictors[TRAINING_LOSS]} if name != TRAINING_LOSS else {}
            row |= _scores(frame, name, values, "test_loss", rivals, resampling)
            rows.append(row | _clean(frame, values, resampling))
    return pd.DataFrame(rows)


def _clean(frame: pd.DataFrame, values: Column, resampling: Resampling) -> dict[str, float]:
    """Tau with the loss on correctly labelled test data, where that is another than the test loss.

    Not over settings together: what the noise adds to the loss differs between them.
    """
    kept, found = np.isfinite(values), None
    noisy = _column(frame, "label_noise") > 0
    if len(set(frame["setting"])) == 1 and noisy.all():
        clean = _column(frame, "clean_test_loss")[kept]
        if not _note(values[kept], clean):
            drawn: Resampling = {**resampling, "clusters": clusters(frame.loc[kept])}
            found = kendall_interval(values[kept], clean, **drawn)
    return interval_columns("clean_kendall", found)


def gap_predictors(frame: pd.DataFrame, measures: tuple[str, ...]) -> dict[str, Column]:
    """The trivial baselines and the measures; a larger value is to go with a larger gap."""
    names = {
        MINUS_TRAINING_LOSS: -_column(frame, "train_loss"),
        TIME: _column(frame, "training_time"),
    }
    return names | {measure: _column(frame, measure) for measure in measures}


def loss_predictors(
    frame: pd.DataFrame, measures: tuple[str, ...], rivals: tuple[str, ...] = ()
) -> dict[str, Column]:
    """What is to rank the test loss; a larger value is to go with a larger loss, except T."""
    loss = _column(frame, "train_loss")
    sums = {
        criterion(name): loss + _column(frame, name) for name in filter(is_predicted_gap, measures)
    }
    others = {name: _column(frame, name) for name in rivals}
    return {TRAINING_LOSS: loss, TIME: _column(frame, "training_time")} | others | sums


def criterion(measure: str) -> str:
    """The name of the sum of the training loss and a predicted gap."""
    return f"{TRAINING_LOSS} + {measure}"


def lead(
    x: Column,
    rival: Column,
    y: Column,
    *,
    clusters: NDArray[np.intp] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """tau(x, y) - tau(rival, y) with its paired bootstrap interval; columns have shape [N].

    Equals `bootstrap` of that difference with the same seed; all resamples at once.
    """
    columns = [weighted.Column.of(column) for column in (x, rival, y)]
    chunks = draw_counts(cluster_indices(clusters, len(y)), num_resamples, seed=seed)
    samples = [
        weighted.kendall(counts, columns[0], columns[2])
        - weighted.kendall(counts, columns[1], columns[2])
        for counts in chunks
    ]
    value = kendall(x, y) - kendall(rival, y)
    return Interval.from_resamples(value, np.concatenate(samples), count=len(y), level=_LEVEL)


def interval_columns(name: str, interval: Interval | None) -> dict[str, float]:
    """An interval as three columns of a table, nan where there is none."""
    bounds = (interval.value, interval.low, interval.high) if interval else (np.nan,) * 3
    return dict(zip((name, f"{name}.low", f"{name}.high"), bounds, strict=True))


def _scores(
    frame: pd.DataFrame,
    name: str,
    values: Column,
    target: str,
    rivals: Mapping[str, Column],
    resampling: Resampling,
) -> dict[str, Any]:
    """The cells of one row, from the models for which the predictor has a number."""
    kept = np.isfinite(values)
    x, y, loss = values[kept], _column(frame, target)[kept], _column(frame, "train_loss")[kept]
    cells: dict[str, Any] = {"count": len(x), "note": _note(x, y), "rival": ""}
    found: dict[str, Interval] = {}
    if not cells["note"]:
        drawn: Resampling = {**resampling, "clusters": clusters(frame.loc[kept])}
        itself = name in (TRAINING_LOSS, MINUS_TRAINING_LOSS)
        found = correlate(x, y, given=None if itself else loss, **drawn)
        others = {key: rival[kept] for key, rival in rivals.items()}
        cells["rival"] = max(others, key=lambda key: _tau(others[key], y), default="")
        if cells["rival"]:
            found |= _against(x, others[cells["rival"]], y, drawn)
    for statistic in (*STATISTICS, "rival_tau", "lead"):
        cells |= interval_columns(statistic, found.get(statistic))
    return cells


def _against(x: Column, rival: Column, y: Column, resampling: Resampling) -> dict[str, Interval]:
    return {
        "rival_tau": kendall_interval(rival, y, **resampling),
        "lead": lead(x, rival, y, **resampling),
    }


def _note(x: Column, y: Column) -> str:
    if len(x) < MIN_MODELS:
        return "too few"
    return "constant" if np.ptp(x) == 0 or np.ptp(y) == 0 else ""


def _tau(x: Column, y: Column) -> float:
    """Tau for choosing the best; what is undefined comes last."""
    tau = kendall(x, y)
    return tau if np.isfinite(tau) else -np.inf


def kind(predictor: str) -> str:
    """What a predictor is: "baseline", "rival", "predicted gap" or "measure"."""
    if predictor in (*GAP_BASELINES, TRAINING_LOSS):
        return "baseline"
    if is_rival(predictor):
        return "rival"
    return "predicted gap" if is_predicted_gap(predictor.split(" + ")[-1]) else "measure"


def _column(frame: pd.DataFrame, name: str) -> Column:
    return np.asarray(frame[name], dtype=float)
