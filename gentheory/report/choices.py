"""Choosing a model: what each criterion's choice costs, and whether it is ahead of the rivals.

Means are over the settings, each with equal weight. Intervals are those of a bootstrap that draws
hyper-parameter points, the same ones in every setting, where a study has the same points in all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.report.population import MIN_MODELS, Population
from gentheory.report.ranking import (
    TIME,
    TRAINING_LOSS,
    Column,
    Resampling,
    criterion,
    kind,
    loss_predictors,
    mean_columns,
    resamples,
)
from gentheory.report.resampled import Samples, difference
from gentheory.stats import kendall, weighted
from gentheory.stats.resample import Counts


def choices(population: Population, costs: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """One row a criterion of the test loss, over the settings that the findings are about.

    `predictor`, `kind`; `settings`, in how many it has a tau; `tau`, its mean; `lowest`, the
    least; `regret`, the test loss of the model that it would pick less the best test loss in the
    setting, in the mean, where a model without a number is never picked; `tau` and `regret` with
    `.low` and `.high`; `seconds`, what it takes for one model beyond its training, in the mean.
    """
    fields = list(_fields(population, population.tested, resampling))
    rows = [
        {"predictor": name, "kind": kind(name), **_choice(fields, name)}
        for name in _criteria(population)
    ]
    seconds = _seconds(population, costs)
    table = pd.DataFrame(rows, columns=_CHOICES)
    return table.assign(seconds=[seconds.get(name, np.nan) for name in table["predictor"]])


def rivalry(population: Population, resampling: Resampling) -> pd.DataFrame:
    """Kendall's tau of each criterion less that of each rival, on the models with both numbers.

    One row a setting, predictor and rival: `count`, `note` ("no number" or ""), and `difference`
    with `.low` and `.high`.
    Rows of the setting `Population.overall` are means over the settings that the findings are
    about, with `settings`, how many they are, and `ahead` and `behind`, in how many of them the
    paired interval excludes 0 on that side.
    """
    fields = list(_fields(population, population.settings, resampling))
    rows: list[dict[str, Any]] = []
    for name in _criteria(population):
        if kind(name) == "rival":
            continue
        for rival in population.rivals:
            rows += _paired(fields, name, rival, population)
    return pd.DataFrame(rows, columns=_RIVALRY)


_CHOICES = [
    *("predictor", "kind", "settings", "tau", "tau.low", "tau.high", "lowest"),
    *("regret", "regret.low", "regret.high"),
]
_RIVALRY = [
    *("setting", "predictor", "rival", "kind", "count", "note"),
    *("difference", "difference.low", "difference.high", "settings", "ahead", "behind"),
]


@dataclass(frozen=True)
class _Field:
    """The ranked models of one setting, with their multiplicities in the resamples of all."""

    setting: str
    predictors: dict[str, Column]
    loss: Column
    counts: Counts
    taus: dict[tuple[str, bytes], Samples] = field(default_factory=dict[Any, Any])

    def tau(self, name: str, kept: NDArray[np.bool_]) -> Samples:
        """Kendall's tau with the test loss on the models kept."""
        key = (name, kept.tobytes())
        if key not in self.taus:
            x, y = self.predictors[name][kept], self.loss[kept]
            columns = weighted.Column.of(x), weighted.Column.of(y)
            self.taus[key] = (kendall(x, y), weighted.kendall(self.counts[:, kept], *columns))
        return self.taus[key]

    def known(self, *names: str) -> NDArray[np.bool_]:
        """Models for which all of these have a number; none where they are too few."""
        kept = np.all([np.isfinite(self.predictors[name]) for name in names], axis=0)
        return kept if kept.sum() >= MIN_MODELS else np.zeros_like(kept)

    def regret(self, name: str) -> Samples:
        """Test loss of the model of least value, less the least test loss."""
        x = self.predictors[name]
        if not self.known(name).any():
            return np.nan, np.full(len(self.counts), np.nan)
        ranked = np.argsort(np.where(np.isfinite(x), x, np.inf), kind="stable")
        ranked = ranked[np.isfinite(x[ranked])]
        picked, best = self._first(ranked), self._first(np.argsort(self.loss, kind="stable"))
        return float(self.loss[ranked[0]] - self.loss.min()), picked - best

    def _first(self, order: NDArray[np.intp]) -> Column:
        """The loss of the first model in this order that is in each resample; nan: none is."""
        there = self.counts[:, order] > 0
        return np.where(there.any(axis=1), self.loss[order[there.argmax(axis=1)]], np.nan)


def _fields(
    population: Population, settings: tuple[str, ...], resampling: Resampling
) -> Iterator[_Field]:
    """The settings that have ranked models, under one set of resamples of all their models."""
    ranked = population.ranked
    ranked = ranked.loc[ranked["setting"].isin(settings)]
    counts = resamples(ranked, resampling)
    for setting in settings:
        rows = np.flatnonzero(ranked["setting"] == setting)
        if not len(rows):
            continue
        frame = ranked.iloc[rows]
        found = loss_predictors(frame, population.measures, population.rivals)
        loss = np.asarray(frame["test_loss"], dtype=float)
        yield _Field(setting, found, loss, counts[:, rows])


def _criteria(population: Population) -> list[str]:
    """What can choose a model: all that rank the test loss, but for the learning-rate time."""
    names = loss_predictors(population.ranked, population.measures, population.rivals)
    return [name for name in names if name != TIME]


def _choice(fields: list[_Field], name: str) -> dict[str, Any]:
    found = [group.tau(name, kept) for group in fields if (kept := group.known(name)).any()]
    taus = [value for value, _ in found if np.isfinite(value)]
    return {
        "settings": len(taus),
        "lowest": min(taus, default=np.nan),
        **mean_columns("tau", found),
        **mean_columns("regret", [group.regret(name) for group in fields]),
    }


def _paired(
    fields: list[_Field], name: str, rival: str, population: Population
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    tested: list[Samples] = []
    for group in fields:
        kept = group.known(name, rival)
        row = {"setting": group.setting, "predictor": name, "rival": rival, "kind": kind(name)}
        samples = _difference(group, name, rival, kept) if kept.any() else None
        if samples is not None and group.setting in population.tested:
            tested.append(samples)
        columns = mean_columns("difference", [samples] if samples else [])
        note = "" if samples else "no number"
        rows.append({**row, "count": int(kept.sum()), "note": note, **columns})
    inner = [row for row in rows if row["setting"] in population.tested]
    overall = {
        "setting": population.overall,
        "predictor": name,
        "rival": rival,
        "kind": kind(name),
        "count": sum(row["count"] for row in inner),
        "note": "" if tested else "no number",
        **mean_columns("difference", tested),
        "settings": len(tested),
        "ahead": sum(row["difference.low"] > 0 for row in inner),
        "behind": sum(row["difference.high"] < 0 for row in inner),
    }
    return [overall, *rows]


def _difference(group: _Field, name: str, rival: str, kept: NDArray[np.bool_]) -> Samples | None:
    found = difference(group.tau(name, kept), group.tau(rival, kept))
    return found if np.isfinite(found[0]) else None


def _seconds(population: Population, costs: pd.DataFrame) -> dict[str, float]:
    """Mean seconds of each criterion over the models that the findings are about."""
    ranked = population.ranked
    models = ranked.loc[ranked["setting"].isin(population.tested), "model"]
    own = costs.loc[costs["model"].isin(models)]
    if own.empty:
        return {}
    means = {str(what): float(rows["seconds"].mean()) for what, rows in own.groupby("what")}
    return {TRAINING_LOSS: 0.0} | means | {criterion(what): cost for what, cost in means.items()}
