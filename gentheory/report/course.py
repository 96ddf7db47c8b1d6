"""The course of quantities along each model's training, and the number that a statement asks of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.report.checkpoints import Unit, measured, unit
from gentheory.report.verdicts import numbers
from gentheory.stats import kendall
from gentheory.study.claim import LOSSES, Statement
from gentheory.study.tables import Tables

FITTED = 1 - 1e-6
"""A training accuracy of 1, stored in single precision or not."""


@dataclass(frozen=True)
class Course:
    """One row a model and checkpoint, in the order of the checkpoints."""

    rows: pd.DataFrame
    by: Unit
    """What checkpoints are counted in, and the column that tells them apart."""
    place: str
    """What errors name."""

    @classmethod
    def of(cls, tables: Tables, quantities: Iterable[str], *, place: str) -> "Course":
        """With a column for each of these quantities.

        Raises `InputError` for a study without checkpoints along training, and for a quantity
        that is neither measured along it nor one of `LOSSES`.
        """
        if tables.trajectory.empty:
            cure = "add training.checkpoints and measures.along, and run the study again"
            raise InputError(place, "no checkpoints along training", "some", cure)
        by, taken = unit(tables), set(tables.measures_along["measure"])
        names = [name for name in dict.fromkeys(quantities) if name not in LOSSES]
        for name in names:
            if name not in taken:
                known = ", ".join(sorted(taken | set(LOSSES)))
                raise InputError(place, f"{name!r} along training", f"one of {known}", "name one")
        rows = measured(tables, tables.trajectory, names)
        for name in ("train_error", "test_error"):
            rows = rows.assign(**{name: numbers(rows, name, place=place)})
        return cls(rows.sort_values(["model", by]).reset_index(drop=True), by, place)

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """All that any model has."""
        return tuple(sorted(set(map(int, self.rows[self.by]))))

    def check(self, *asked: object) -> None:
        """Raises `InputError` for a checkpoint that no model has."""
        for one in asked:
            if isinstance(one, int) and one not in self.checkpoints:
                known = ", ".join(map(str, self.checkpoints))
                found = f"checkpoint {one}"
                raise InputError(self.place, found, f"{self.by} {known}", "name one of these")

    def numbers(
        self, statement: Statement, quantity: str, models: Sequence[str]
    ) -> NDArray[np.float64]:
        """The statement's number of each of these models [M].

        nan where one has none, infinite where it never comes to the level.
        """
        found: dict[str, float] = {}
        for model, own in self.rows.groupby("model"):
            found[str(model)] = self._number(statement, quantity, own)
        return np.array([found.get(model, np.nan) for model in models])

    def _number(self, statement: Statement, quantity: str, own: pd.DataFrame) -> float:
        own = own.loc[np.isfinite(np.asarray(own[quantity], dtype=float))]
        own = _between(own, self.by, statement)
        if statement.statistic == "correlation":
            return _correlation(own, quantity, statement)
        if len(own) < (2 if statement.statistic in ("change", "fall") else 1):
            return np.nan
        at, values = (np.asarray(own[name], dtype=float) for name in (self.by, quantity))
        first, last = float(values[0]), float(values[-1])
        if statement.statistic == "fall":
            return first / last if min(first, last) > 0 else np.nan
        if statement.statistic in ("value", "change"):
            return last - (first if statement.statistic == "change" else 0.0)
        below = statement.statistic == "first_below"
        reached = values <= statement.level if below else values >= statement.level
        return float(at[reached.argmax()]) if reached.any() else np.inf


def _between(own: pd.DataFrame, by: Unit, statement: Statement) -> pd.DataFrame:
    """From the start to the end, none where a model has not both."""
    start, end = statement.start, statement.end
    if end is not None:
        own = own.loc[own[by] <= end] if end in set(own[by]) else own.iloc[:0]
    if start == "fitted":
        fitted = np.asarray(own["train_accuracy"], dtype=float) >= FITTED
        return own.iloc[int(fitted.argmax()) :] if fitted.any() else own.iloc[:0]
    if start is not None:
        own = own.loc[own[by] >= start] if start in set(own[by]) else own.iloc[:0]
    return own


def _correlation(own: pd.DataFrame, quantity: str, statement: Statement) -> float:
    pair = np.asarray(own[[quantity, statement.other]], dtype=float)
    pair = pair[np.isfinite(pair).all(axis=1)]
    pair = np.diff(pair, axis=0) if statement.changes else pair
    return kendall(pair[:, 0], pair[:, 1]) if len(pair) >= 3 else np.nan
