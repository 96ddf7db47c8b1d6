"""Statements on quantities: their sizes, their course along training, and what they rise with."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.report.course import Course
from gentheory.report.population import Population
from gentheory.report.ranking import Resampling
from gentheory.report.repeats import Repeated, interval, repeats
from gentheory.report.resampled import Samples, difference
from gentheory.report.verdicts import Found, in_words, numbers, selected
from gentheory.stats import Interval, kendall_within
from gentheory.study.claim import Statement, Where
from gentheory.study.tables import Tables

_PLACE = "report.claims"


def decide(
    statement: Statement, tables: Tables, population: Population, resampling: Resampling
) -> Found:
    """The mean of the models' numbers with its 95 % bootstrap over the repeats they share.

    A repeat is a seed or, where settings are drawn, a draw: what stands in both groups of a
    comparison is drawn for both. Fewer than `MIN_REPEATS` leave a number without an interval.
    Raises `InputError` for a quantity, a column or a checkpoint that the tables do not have.
    """
    reader = _Reader.of(statement, tables, population)
    own = reader.group(statement.where)
    opposite = statement.against
    if opposite is not None and opposite.where is not None:
        return _compared(
            own, reader.group(opposite.where, opposite.quantity), statement, resampling
        )
    if opposite is not None:
        other = reader.group(statement.where, opposite.quantity)
        own = own.less(other)
    if statement.rises_with is not None:
        return _rising(own, statement.rises_with, resampling)
    return _alone(own, statement, resampling)


def number(statement: Statement) -> str:
    """What decides on a statement, in words."""
    text = _statistic(statement)
    text += in_words(statement.where)
    if statement.against is not None:
        word = "over" if statement.compare == "ratio" else "less"
        other = statement.against.quantity
        text += f", {word} that of {other or 'the same'}{in_words(statement.against.where or {})}"
    if statement.rises_with is not None:
        text = f"Kendall τ, over the models of a seed, of {statement.rises_with} with the {text}"
    return text


def _statistic(statement: Statement) -> str:
    named = statement.quantity.replace("_", " ") if "." not in statement.quantity else ""
    named = named or statement.quantity
    start = f"checkpoint {statement.start}"
    if not isinstance(statement.start, int):
        start = "zero training error" if statement.start else "the first checkpoint"
    end = "the end" if statement.end is None else f"checkpoint {statement.end}"
    changes = "changes of " if statement.changes else ""
    level = "" if statement.level is None else f"{statement.level:g}"
    return {
        "value": named if statement.end is None else f"{named} at {end}",
        "change": f"{named} at {end} less that at {start}",
        "fall": f"{named} at {start} over that at {end}",
        "first_below": f"first checkpoint with {named} at most {level}",
        "first_above": f"first checkpoint with {named} at least {level}",
        "correlation": f"Kendall τ of {changes}{named} with {changes}{statement.other}, from "
        f"{start} to {end}",
    }[statement.statistic]


@dataclass(frozen=True)
class _Group:
    """The chosen models with a number each, nan where one has none."""

    models: pd.DataFrame
    values: NDArray[np.float64]
    labels: NDArray[np.str_]
    is_log: bool

    @property
    def known(self) -> "_Group":
        """Those that have a number; it may be infinite."""
        kept = ~np.isnan(self.values)
        return _Group(self.models.loc[kept], self.values[kept], self.labels[kept], self.is_log)

    @property
    def never(self) -> int:
        """How many never come to the level."""
        return int(np.isinf(self.values).sum())

    def less(self, other: "_Group") -> "_Group":
        """The difference to the same models' other numbers; never less never is none."""
        with np.errstate(invalid="ignore"):
            values = self.values - other.values
        return _Group(self.models, values, self.labels, self.is_log)

    def found(self, interval: Interval | None, *, note: str = "") -> Found:
        """The number with the sizes of the group; a logarithm is taken back."""
        if interval is not None and self.is_log:
            value, low, high = np.exp([interval.value, interval.low, interval.high]).tolist()
            interval = replace(interval, value=value, low=low, high=high, stderr=np.nan)
        settings = len(set(self.models["setting"]))
        return Found(interval, settings, len(self.models), len(set(self.labels)), note)


@dataclass(frozen=True)
class _Reader:
    """Reads the statement's number of each model off the tables."""

    statement: Statement
    models: pd.DataFrame
    course: Course | None

    @classmethod
    def of(cls, statement: Statement, tables: Tables, population: Population) -> "_Reader":
        ranked = population.ranked
        models = ranked.loc[ranked["setting"].isin(population.tested)]
        course = None
        if statement.is_along:
            course = Course.of(tables, statement.quantities(), place=_PLACE)
            course.check(statement.start, statement.end)
        return cls(statement, models, course)

    def group(self, where: Where, quantity: str | None = None) -> _Group:
        """The numbers of these models, of another quantity where one is named."""
        models = self.models.loc[selected(self.models, where)]
        name = quantity or self.statement.quantity
        if self.course is None:
            values = numbers(models, name, place=_PLACE)
        else:
            values = self.course.numbers(self.statement, name, list(models["model"]))
        if self.statement.is_ratio:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(values > 0, np.log(values), np.nan)
        return _Group(models, values, repeats(models), self.statement.is_ratio)


def _alone(group: _Group, statement: Statement, resampling: Resampling) -> Found:
    known = group.known
    if not len(known.values):
        return known.found(None, note=_missing(group))
    if known.never:
        note = f"{known.never} of {len(known.values)} models never come to {statement.level:g}"
        return known.found(None, note=note)
    drawn = _drawn(known.labels, resampling)
    return known.found(
        _interval(drawn.mean(known.values, known.labels), known), note=_missing(group)
    )


def _compared(one: _Group, other: _Group, statement: Statement, resampling: Resampling) -> Found:
    one, other = one.known, other.known
    if not len(one.values) or not len(other.values):
        return one.found(None, note="one side of the comparison has no number")
    if never := one.never + other.never:
        return one.found(None, note=f"{never} models never come to {statement.level:g}")
    drawn = _drawn(np.concatenate([one.labels, other.labels]), resampling)
    samples = difference(*(drawn.mean(side.values, side.labels) for side in (one, other)))
    fewer = min(one, other, key=lambda side: len(set(side.labels)))
    found = one.found(_interval(samples, fewer))
    models = len(one.models) + len(other.models)
    return Found(found.interval, found.settings, models, len(set(fewer.labels)))


def _rising(group: _Group, name: str, resampling: Resampling) -> Found:
    """Tau within each repeat, over its models; never comes after everything else."""
    if group.models.empty:
        return group.found(None)
    column = numbers(group.models, name, place=f"{_PLACE}.rises_with")
    kept = np.isfinite(column) & ~np.isnan(group.values)
    known = _Group(group.models.loc[kept], group.values[kept], group.labels[kept], is_log=False)
    if not len(known.values):
        return known.found(None, note=_missing(group))
    ranks = np.unique(known.values, return_inverse=True)[1].astype(float)
    taus = kendall_within(column[kept], ranks, known.labels)
    labels = np.unique(known.labels)[np.isfinite(taus)]
    taus = taus[np.isfinite(taus)]
    if not len(taus):
        return known.found(None, note="no seed has three models whose numbers differ")
    samples = _drawn(labels, resampling).mean(taus, labels)
    found = interval(samples, num_repeats=len(labels), count=len(known.values))
    note = f"{known.never} never come there and count as last" if known.never else ""
    return known.found(found, note=note)


def _missing(group: _Group) -> str:
    missing = len(group.values) - len(group.known.values)
    return f"{missing} of {len(group.values)} models have no number" if missing else ""


def _drawn(labels: NDArray[np.str_], resampling: Resampling) -> Repeated:
    return Repeated.of(labels, num_resamples=resampling["num_resamples"], seed=resampling["seed"])


def _interval(samples: Samples, group: _Group) -> Interval:
    return interval(samples, num_repeats=len(set(group.labels)), count=len(group.values))
