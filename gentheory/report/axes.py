"""What ranks the gap along each hyper-parameter, and in every environment of two models."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gentheory.errors import InputError
from gentheory.report.design import TARGETS, Design, kind_of
from gentheory.report.ranking import Column, Resampling, interval_columns, obstacle
from gentheory.stats import (
    Interval,
    SignErrors,
    conditional_information,
    granulated_kendall,
    holm,
    p_values,
    sign_errors,
)

MEAN, INFORMATION = "Ψ", "K"
"""The summaries beside the ψ of each axis: their mean, and the least conditional information."""

SHARE_OF_PAIRS = 0.12
"""Of the pairs of repeats, the effective number that an environment must keep: 12 of 10 x 10."""


@dataclass(frozen=True)
class Environments:
    """Sign errors in the pairs of configurations that differ in one hyper-parameter."""

    summary: pd.DataFrame
    """The table of `environments`."""
    errors: pd.DataFrame
    """One row a target, predictor and environment: `axis` and `sign_error`, nan where dropped."""


def granulated(found: Design | None, resampling: Resampling) -> pd.DataFrame:
    """ψ along every axis, their mean Ψ, and K; empty without a design.

    One row a `target` (of `TARGETS`), `predictor` and `axis` (or "Ψ" or "K"): `kind`, `count`
    (models with a number), `note`, and `psi` with `.low` and `.high`, a 95 % bootstrap over
    configurations with their repeats, of K a jackknife over configurations.
    """
    rows: list[dict[str, Any]] = []
    for target, name, subject in _subjects(found, resampling):
        row = {"target": target, "predictor": name, "kind": kind_of(name), **subject.about}
        for axis, interval in subject.along_axes(resampling).items():
            rows.append({**row, "axis": axis, **interval_columns("psi", interval)})
    return pd.DataFrame(rows, columns=_GRANULATED)


def environments(found: Design | None, resampling: Resampling) -> Environments:
    """Sign errors by environment, summarized for each target and predictor.

    `summary` has `target`, `predictor`, `kind`, `note`; `environments`, how many count, and
    `dropped`, how many were too noisy; `mean` with `.low` and `.high`, a 95 % bootstrap over
    configurations with their repeats; `median`, `q90`, `worst` and `least`; and `p`, that of
    mean = 1/2, after Holm for all measures of the target. Gaps in error weigh by what their
    test examples can tell apart; those in loss, which has no bound, weigh the same.
    """
    rows: list[dict[str, Any]] = []
    parts: list[pd.DataFrame] = [pd.DataFrame(columns=_ERRORS)]
    means: list[Interval | None] = []
    for target, name, subject in _subjects(found, resampling):
        row = {"target": target, "predictor": name, "kind": kind_of(name), **subject.about}
        errors = subject.errors(resampling)
        means.append(errors and errors.mean)
        rows.append(row | _summary(errors))
        if errors is not None:
            column = np.where(errors.kept, errors.error, np.nan)
            parts.append(pd.DataFrame({**row, "axis": errors.axis, "sign_error": column}))
    table = pd.DataFrame(rows, columns=_SUMMARY)
    known = [part.loc[:, _ERRORS] for part in parts if len(part)]
    errors = pd.concat(known, ignore_index=True) if known else parts[0]
    return Environments(table.assign(p=adjusted(table, means, null=0.5)), errors)


def adjusted(table: pd.DataFrame, intervals: list[Interval | None], *, null: float) -> Column:
    """Holm's p-values of value = `null`, for the measures of each target together.

    Baselines are no hypotheses: their p-values are those of one test.
    """
    there = [place for place, interval in enumerate(intervals) if interval is not None]
    p = np.full(len(table), np.nan)
    p[there] = p_values([each for each in intervals if each is not None], null=null)
    for target in TARGETS:
        rows = np.asarray((table["target"] == target) & (table["kind"] != "baseline"))
        p[rows] = holm(p[rows])
    return p


@dataclass(frozen=True)
class _Subject:
    """A predictor and the gap that it is to rank, on the models that have both."""

    x: Column
    y: Column
    axes: dict[str, Any]
    lines: tuple[str, ...]
    num_test: int | None

    @property
    def about(self) -> dict[str, Any]:
        return {"count": len(self.x), "note": obstacle(self.x, self.y)}

    def along_axes(self, resampling: Resampling) -> dict[str, Interval | None]:
        if self.about["note"]:
            return dict.fromkeys((*self.lines, MEAN, INFORMATION))
        found = granulated_kendall(self.x, self.y, self.axes, **resampling)
        psi = {axis: found.psi[axis] for axis in self.lines}
        return {**psi, MEAN: found.mean, INFORMATION: self._information()}

    def _information(self) -> Interval | None:
        try:
            return conditional_information(self.x, self.y, self.axes).least
        except InputError:  # axes with too many values to be counted
            return None

    def errors(self, resampling: Resampling) -> SignErrors | None:
        if self.about["note"]:
            return None
        repeats = len(self.x) / len(set(zip(*self.axes.values(), strict=True)))
        least = max(1.0, SHARE_OF_PAIRS * repeats**2)
        return sign_errors(
            *(self.x, self.y, self.axes),
            num_test=self.num_test,
            min_effective_size=least,
            num_resamples=resampling["num_resamples"],
            seed=resampling["seed"],
        )


def _subjects(found: Design | None, resampling: Resampling) -> Iterator[tuple[str, str, _Subject]]:
    """Every target and predictor, on the models for which both have a number."""
    if found is None:
        return
    for target in found.targets:
        gap = np.asarray(found.models[target], dtype=float)
        for name, column in found.predictors(target, seed=resampling["seed"]).items():
            kept = np.isfinite(column) & np.isfinite(gap)
            axes = {axis: labels[kept] for axis, labels in found.axes.items()}
            num_test = found.num_test if target == "error_gap" else None
            yield target, name, _Subject(column[kept], gap[kept], axes, found.lines, num_test)


def _summary(errors: SignErrors | None) -> dict[str, Any]:
    if errors is None:
        unknown = dict.fromkeys(("median", "q90", "worst", "least"), np.nan)
        return {"environments": 0, "dropped": 0, **interval_columns("mean", None), **unknown}
    return {
        "environments": int(errors.kept.sum()),
        "dropped": errors.num_dropped,
        **interval_columns("mean", errors.mean),
        **{name: errors.quantile(level) for name, level in _QUANTILES.items()},
    }


_QUANTILES = {"median": 0.5, "q90": 0.9, "worst": 1.0, "least": 0.0}
_SUBJECT = ["target", "predictor", "kind", "count", "note"]
_GRANULATED = [*_SUBJECT, "axis", "psi", "psi.low", "psi.high"]
_SUMMARY = [
    *(*_SUBJECT, "environments", "dropped", "mean", "mean.low", "mean.high"),
    *("median", "q90", "worst", "least"),
]
_ERRORS = ["target", "predictor", "kind", "axis", "sign_error"]
