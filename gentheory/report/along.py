"""Whether measures follow the gap while a model trains: what a study's checkpoints say."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gentheory.report.checkpoints import Unit, measured, taus, unit
from gentheory.report.numbers import interval
from gentheory.report.population import MIN_MODELS, Population, clusters, is_predicted_gap
from gentheory.report.ranking import (
    GAP_BASELINES,
    Column,
    Resampling,
    gap_predictors,
    interval_columns,
    kind,
    mean_columns,
    resamples,
)
from gentheory.report.resampled import Samples
from gentheory.stats import Interval, kendall, mean_interval, weighted
from gentheory.study.tables import Tables

MEAN = "mean over settings"
GAP = "measured gap"


@dataclass(frozen=True)
class Along:
    """What there is to say of the checkpoints along training, in the tested settings alone.

    A model counts at a checkpoint unless it had ended before, whatever became of it later.
    """

    unit: Unit
    """What checkpoints are counted in, and the name of the column that tells them apart."""
    checkpoints: tuple[int, ...]
    means: pd.DataFrame
    """One row a setting, checkpoint and series (the measured gap and each predicted one): `count`
    and `mean`, the mean over models with its 95 % bootstrap interval, `mean.low` and `mean.high`.
    """
    within: pd.DataFrame
    """One row a setting and predictor: `kendall`, the mean over models of Kendall's tau with the
    gap over the model's own checkpoints; `count` models have one. `rival` names the trivial
    baseline of the larger mean, and `lead` is the mean of the model's tau less that of the
    baseline. Intervals by bootstrap over the hyper-parameter points."""
    across: pd.DataFrame
    """One row a setting, checkpoint and predictor: `kendall`, tau with the gap over `count`
    models."""


def along(tables: Tables, population: Population, resampling: Resampling) -> Along | None:
    """The numbers of the checkpoints along training; None for a study without any."""
    if tables.trajectory.empty:
        return None
    measures = set(tables.measures_along["measure"])
    ordered = tuple(name for name in population.measures if name in measures)
    frame, by = _frame(tables, population, ordered), unit(tables)
    return Along(
        by,
        tuple(sorted(set(map(int, frame[by])))),
        pd.DataFrame(_means(frame, by, population, ordered, resampling)),
        pd.DataFrame(_within(frame, population, ordered, resampling)),
        pd.DataFrame(_across(frame, by, population, ordered, resampling)),
    )


def in_words(found: Along, measure: str | None) -> str:
    """Whether this measure follows the gap within models; nothing where it was not measured."""
    overall = found.within["setting"].iloc[0] if len(found.within) else ""
    rows = found.within.loc[found.within["setting"] == overall].to_dict(orient="records")
    own = next((row for row in rows if row["predictor"] == measure and not row["note"]), None)
    if own is None:
        return ""
    said = f"In the mean over {own['count']} models, {measure} follows the gap within a model's "
    said += f"training with Kendall τ = {interval(own, 'kendall')}"
    rival = next((row for row in rows if row["predictor"] == own["rival"]), None)
    if rival is None or math.isnan(own["lead.low"]):
        return f"{said}."
    place = "ahead of" if own["lead.low"] > 0 else "behind" if own["lead.high"] < 0 else "beside"
    return f"{said}, {place} {own['rival']} ({interval(rival, 'kendall')})."


def _frame(tables: Tables, population: Population, measures: tuple[str, ...]) -> pd.DataFrame:
    """The checkpoints of tested settings at which a model is there, with its measures."""
    about = population.models[["model", "setting", "point"]]
    frame = tables.trajectory.merge(about, on="model", validate="many_to_one")
    finite = np.isfinite(frame[["train_loss", "test_loss", "gap"]].to_numpy(dtype=float)).all(1)
    frame = frame.loc[finite & frame["setting"].isin(population.tested).to_numpy()]
    return measured(tables, frame, measures).reset_index(drop=True)


def _settings(frame: pd.DataFrame, population: Population) -> Iterator[tuple[str, pd.DataFrame]]:
    for setting in population.tested:
        yield setting, frame.loc[frame["setting"] == setting]


def _means(
    frame: pd.DataFrame,
    by: Unit,
    population: Population,
    measures: tuple[str, ...],
    resampling: Resampling,
) -> Iterator[dict[str, Any]]:
    series = {GAP: "gap"} | {name: name for name in measures if is_predicted_gap(name)}
    for setting, own in _settings(frame, population):
        for checkpoint, rows in own.groupby(by):
            drawn: Resampling = {**resampling, "clusters": clusters(rows)}
            for name, column in series.items():
                mean = mean_interval(_numbers(rows, column), **drawn)
                row = {"setting": setting, by: checkpoint, "series": name, "count": mean.count}
                yield row | interval_columns("mean", mean)


def _within(
    frame: pd.DataFrame, population: Population, measures: tuple[str, ...], resampling: Resampling
) -> Iterator[dict[str, Any]]:
    several = len(population.tested) > 1
    groups = list(_settings(frame, population)) if several else []
    for setting, own in [(population.overall, frame), *groups]:
        found = _taus(own, measures)
        # In the rising order of the models' names, as the taus are.
        drawn: Resampling = {
            **resampling,
            "clusters": clusters(own.drop_duplicates("model").sort_values("model")),
        }
        for name, column in found.items():
            row = {"setting": setting, "predictor": name, "kind": kind(name), "rival": ""}
            yield row | _followed(name, column, found, drawn)


def _taus(frame: pd.DataFrame, measures: tuple[str, ...]) -> dict[str, Column]:
    """Tau of each predictor with the gap within every model, nan where undefined; shape [M]."""
    predictors = gap_predictors(frame, measures).items()
    return {name: taus(frame, values).to_numpy() for name, values in predictors}


def _followed(
    name: str, taus: Column, others: dict[str, Column], resampling: Resampling
) -> dict[str, Any]:
    """The mean over models, and that of the difference to the better trivial baseline."""
    count = int(np.isfinite(taus).sum())
    cells: dict[str, Any] = {"count": count, "note": "" if count >= MIN_MODELS else "too few"}
    mean: Interval | None = None
    lead: Interval | None = None
    if not cells["note"]:
        mean = mean_interval(taus, **resampling)
        rivals = {key: others[key] for key in GAP_BASELINES if key in others}
        rivals = {} if name in rivals else rivals
        both = {key: np.isfinite(taus - rival) for key, rival in rivals.items()}
        means = {key: float(rivals[key][kept].mean()) for key, kept in both.items() if kept.any()}
        if means:
            cells["rival"] = max(means, key=lambda key: means[key])
            lead = mean_interval(taus - rivals[cells["rival"]], **resampling)
    return cells | interval_columns("kendall", mean) | interval_columns("lead", lead)


def _across(
    frame: pd.DataFrame,
    by: Unit,
    population: Population,
    measures: tuple[str, ...],
    resampling: Resampling,
) -> Iterator[dict[str, Any]]:
    """Settings share the resamples of their models, so that their mean has an interval too."""
    for checkpoint, rows in frame.groupby(by):
        counts, gap = resamples(rows, resampling), _numbers(rows, "gap")
        for name, values in gap_predictors(rows, measures).items():
            row = {by: checkpoint, "predictor": name, "kind": kind(name)}
            found: list[Samples] = []
            for setting in population.tested:
                kept = np.isfinite(values) & (rows["setting"] == setting).to_numpy()
                tau, samples = _resampled(values[kept], gap[kept], counts[:, kept])
                found += [(tau, samples)] if np.isfinite(tau) else []
                note = (
                    "" if np.isfinite(tau) else "too few" if kept.sum() < MIN_MODELS else "constant"
                )
                own = {"setting": setting, "count": int(kept.sum()), "note": note}
                yield row | own | mean_columns("kendall", [(tau, samples)])
            if len(population.tested) > 1:
                note = "" if found else "no number"
                own = {"setting": MEAN, "count": int(np.isfinite(values).sum()), "note": note}
                yield row | own | mean_columns("kendall", found)


def _resampled(x: Column, y: Column, counts: Column) -> Samples:
    """Tau and its values on the resamples; nan for too few models."""
    if len(x) < MIN_MODELS:
        return np.nan, np.full(len(counts), np.nan)
    columns = weighted.Column.of(x), weighted.Column.of(y)
    return kendall(x, y), weighted.kendall(counts, *columns)


def _numbers(frame: pd.DataFrame, column: str) -> Column:
    return np.asarray(frame[column], dtype=float)
