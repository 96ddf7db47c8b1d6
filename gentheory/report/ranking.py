"""How well measures and trivial baselines rank the gap and the test loss: tables of tau."""

from collections.abc import Mapping, Sequence
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
from gentheory.report.resampled import Resampled, Samples, difference, drawn, interval, mean
from gentheory.stats import Interval, kendall_interval
from gentheory.stats.resample import Counts

Column = NDArray[np.float64]

MINUS_TRAINING_LOSS = "minus training loss"
TRAINING_LOSS = "training loss"
TIME = "learning-rate time T"
PARAMETERS = "parameter count"
GAP_BASELINES = (MINUS_TRAINING_LOSS, TIME, PARAMETERS)
"""What a measure of the gap has to beat; the last one where it varies within the study."""
_TRIVIAL = tuple(
    f"baselines.{name}" for name in ("training_loss", "training_time", "parameter_count")
)
"""Measures that are trivial baselines themselves, whatever their sign."""
STATISTICS = ("kendall", "partial_kendall", "spearman", "pearson")


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
        predictors = gap_predictors(frame, population.measures, counts=population.sizes_vary)
        baselines = tuple(name for name in GAP_BASELINES if name in predictors)
        pool = Pool(frame, predictors, "gap", resampling)
        for name in predictors:
            row = {"setting": setting, "predictor": name, "kind": kind(name)}
            rows.append(row | pool.scores(name, () if name in baselines else baselines))
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
        pool = Pool(frame, predictors, "test_loss", resampling)
        for name, values in predictors.items():
            row = {"setting": setting, "predictor": name, "kind": kind(name)}
            row |= pool.scores(name, () if name == TRAINING_LOSS else (TRAINING_LOSS,))
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
        if not obstacle(values[kept], clean):
            drawn: Resampling = {**resampling, "clusters": clusters(frame.loc[kept])}
            found = kendall_interval(values[kept], clean, **drawn)
    return interval_columns("clean_kendall", found)


def gap_predictors(
    frame: pd.DataFrame, measures: tuple[str, ...], *, counts: bool = False
) -> dict[str, Column]:
    """The trivial baselines and the measures; a larger value is to go with a larger gap.

    The parameter count is among the baselines with `counts`.
    """
    names = {
        MINUS_TRAINING_LOSS: -_column(frame, "train_loss"),
        TIME: _column(frame, "training_time"),
    }
    names |= {PARAMETERS: _column(frame, "num_parameters")} if counts else {}
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


def interval_columns(name: str, interval: Interval | None) -> dict[str, float]:
    """An interval as three columns of a table, nan where there is none."""
    bounds = (interval.value, interval.low, interval.high) if interval else (np.nan,) * 3
    return dict(zip((name, f"{name}.low", f"{name}.high"), bounds, strict=True))


def resamples(frame: pd.DataFrame, resampling: Resampling) -> Counts:
    """How often each row is in each resample of the hyper-parameter points."""
    how = {"num_resamples": resampling["num_resamples"], "seed": resampling["seed"]}
    return drawn(clusters(frame), len(frame), **how)


def mean_columns(name: str, found: Sequence[Samples]) -> dict[str, float]:
    """The same columns of the mean over settings."""
    samples = mean(found)
    return interval_columns(name, samples and interval(samples, len(found)))


class Pool:
    """The predictors of some models with what they are to rank, under common resamples."""

    def __init__(
        self,
        frame: pd.DataFrame,
        predictors: Mapping[str, Column],
        target: str,
        resampling: Resampling,
    ) -> None:
        self._frame, self._target, self._resampling = frame, target, resampling
        self._columns = {name: _column(frame, name) for name in (target, "train_loss")}
        self._columns |= predictors
        self._found: dict[bytes, Resampled] = {}

    def pair(self, name: str) -> tuple[Column, Column]:
        """The predictor and the target, where the predictor has a number."""
        kept = np.isfinite(self._columns[name])
        return self._columns[name][kept], self._columns[self._target][kept]

    def tau(self, name: str) -> Interval | None:
        """Kendall's tau of the predictor with the target, if there is one."""
        if obstacle(*self.pair(name)):
            return None
        pool = self._on(np.isfinite(self._columns[name]))
        return pool.interval(pool.kendall(name, self._target))

    def scores(self, name: str, rivals: tuple[str, ...]) -> dict[str, Any]:
        """The cells of one row, from the models for which the predictor has a number."""
        kept, note = np.isfinite(self._columns[name]), obstacle(*self.pair(name))
        cells: dict[str, Any] = {"count": int(kept.sum()), "note": note, "rival": ""}
        found: dict[str, Samples] = {}
        pool = None if note else self._on(kept)
        if pool is not None:
            found = self._correlations(pool, name)
            taus = {rival: pool.kendall(rival, self._target) for rival in rivals}
            cells["rival"] = max(taus, key=lambda rival: _order(taus[rival]), default="")
            if cells["rival"]:
                rival_tau = taus[cells["rival"]]
                lead = difference(found["kendall"], rival_tau)
                found |= {"rival_tau": rival_tau, "lead": lead}
        for statistic in (*STATISTICS, "rival_tau", "lead"):
            samples = found.get(statistic)
            interval = pool.interval(samples) if pool and samples else None
            cells |= interval_columns(statistic, interval)
        return cells

    def _correlations(self, pool: Resampled, name: str) -> dict[str, Samples]:
        found = {
            "kendall": pool.kendall(name, self._target),
            "spearman": pool.spearman(name, self._target),
            "pearson": pool.pearson(name, self._target),
        }
        if name not in (TRAINING_LOSS, MINUS_TRAINING_LOSS):
            found["partial_kendall"] = pool.partial_kendall(name, self._target, "train_loss")
        return found

    def _on(self, kept: NDArray[np.bool_]) -> Resampled:
        """The resamples of these models; most predictors have a number for all of them."""
        key = kept.tobytes()
        if key not in self._found:
            if len(self._found) > 1:
                self._found.popitem()
            drawn: Resampling = {**self._resampling, "clusters": clusters(self._frame.loc[kept])}
            columns = {name: column[kept] for name, column in self._columns.items()}
            self._found[key] = Resampled(columns, **drawn)
        return self._found[key]


def obstacle(x: Column, y: Column) -> str:
    """Why there is no correlation of x [N] and y [N]: "too few", "constant" or ""."""
    if len(x) < MIN_MODELS:
        return "too few"
    return "constant" if np.ptp(x) == 0 or np.ptp(y) == 0 else ""


def _order(samples: Samples) -> float:
    """Tau for choosing the best; what is undefined comes last."""
    return samples[0] if np.isfinite(samples[0]) else -np.inf


def kind(predictor: str) -> str:
    """What a predictor is: "baseline", "rival", "predicted gap" or "measure"."""
    if predictor in (*GAP_BASELINES, TRAINING_LOSS, *_TRIVIAL):
        return "baseline"
    if is_rival(predictor):
        return "rival"
    return "predicted gap" if is_predicted_gap(predictor.split(" + ")[-1]) else "measure"


def _column(frame: pd.DataFrame, name: str) -> Column:
    return np.asarray(frame[name], dtype=float)
