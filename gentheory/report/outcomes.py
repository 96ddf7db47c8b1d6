"""What happened besides the numbers: settings, models left out, refusals, failures, warnings."""

import json
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.report.population import Population
from gentheory.study.tables import Tables

_MEDIANS = ["train_loss", "test_loss", "gap", "gap_stderr", "train_accuracy", "test_accuracy"]
_ALL = 1 - 1e-6
"""An accuracy of 1, stored in single precision or not."""

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


def settings(population: Population) -> pd.DataFrame:
    """One row a setting: numbers of models and the medians of those that are ranked.

    Models are `trained`, of which some are `excluded` and the others `ranked`, of which some are
    `fitted`: they classify all their training data rightly, and interpolate them.
    """
    trained = Counter(population.models["setting"])
    ranked = population.ranked
    rows: list[dict[str, str | float]] = []
    for setting in population.settings:
        kept = ranked.loc[ranked["setting"] == setting]
        row: dict[str, str | float] = {"setting": setting, "trained": trained[setting]}
        row |= {"ranked": len(kept), "excluded": trained[setting] - len(kept)}
        row["fitted"] = int((_numbers(kept, "train_accuracy") >= _ALL).sum())
        rows.append(row | {name: _median(kept, name) for name in _MEDIANS})
    return pd.DataFrame(rows)


def exclusions(population: Population) -> pd.DataFrame:
    """Models that are not ranked: one row a `setting` and `reason`, with the number of `models`."""
    rows = zip(population.models["setting"], population.models["excluded"], strict=True)
    return _table(((row for row in rows if row[1])), ["setting", "reason"])


def misses(tables: Tables) -> pd.DataFrame:
    """Measures without a number: one row a `measure`, `status` and `reason`, with `models`.

    Reasons that differ in their numbers only are one, with an example.
    """
    columns = (tables.measures[name] for name in ("measure", "status", "reason"))
    rows = ((m, s, _text(reason)) for m, s, reason in zip(*columns, strict=True) if s != "ok")
    return _table(rows, ["measure", "status", "reason"])


def warnings(tables: Tables) -> pd.DataFrame:
    """Warnings that the numbers carry: one row a `measure` and `warning`, with `models`.

    Warnings that differ in their numbers only are one, with an example.
    """
    columns = (tables.measures[name] for name in ("measure", "status", "warnings"))
    rows = (
        (measure, str(warning))
        for measure, status, carried in zip(*columns, strict=True)
        if status == "ok"
        for warning in json.loads(_text(carried) or "[]")
    )
    return _table(rows, ["measure", "warning"])


def _table(rows: Iterable[tuple[str, ...]], columns: list[str]) -> pd.DataFrame:
    """Count rows, most frequent first; those whose last entries differ in numbers only are one."""
    texts: dict[tuple[str, ...], set[str]] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    for *others, text in rows:
        key = (*others, _NUMBER.sub("#", text))
        texts.setdefault(key, set()).add(text)
        counts[key] += 1
    found = [(*key[:-1], _example(texts[key]), count) for key, count in counts.most_common()]
    return pd.DataFrame(found, columns=[*columns, "models"])


def _example(texts: set[str]) -> str:
    return min(texts) if len(texts) == 1 else f"e.g. {min(texts)}"


def _text(cell: object) -> str:
    """A cell of text; a missing one is nan or None."""
    return cell if isinstance(cell, str) else ""


def _numbers(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return np.asarray(frame[name], dtype=float)


def _median(frame: pd.DataFrame, name: str) -> float:
    return float(np.median(_numbers(frame, name))) if len(frame) else np.nan
