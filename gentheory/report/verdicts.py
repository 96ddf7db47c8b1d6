"""What a claim is decided by, whatever its kind: the chosen models, its bounds, its verdict."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.stats import Interval
from gentheory.study.claim import Decided

AGREES, DISAGREES, OPEN, NO_NUMBER = "agrees", "disagrees", "undecided", "no number"
NONE = "none"
"""In `where`: models that have no value in this column."""


@dataclass(frozen=True)
class Found:
    """The number that decides, and how much it rests on."""

    interval: Interval | None
    settings: int
    models: int
    repeats: int = 0
    """Seeds, or draws of settings, that were drawn again and again; 0 where settings were."""
    note: str = ""


def expected(claim: Decided) -> str:
    """The bounds in words."""
    parts = [
        f"{word} {bound:g}".replace("-", "−")
        for word, bound in (("above", claim.above), ("below", claim.below))
        if bound is not None
    ]
    return " and ".join(parts)


def verdict(cells: Mapping[str, float], claim: Decided) -> str:
    """What an interval says of a claim; `cells` are value, value.low and value.high."""
    low, high = cells["value.low"], cells["value.high"]
    if not np.isfinite(cells["value"]):
        return NO_NUMBER
    if not np.isfinite([low, high]).all():
        return OPEN
    above = -np.inf if claim.above is None else claim.above
    below = np.inf if claim.below is None else claim.below
    if low > above and high < below:
        return AGREES
    return DISAGREES if high < above or low > below else OPEN


def in_words(where: Mapping[str, Sequence[Any]]) -> str:
    """Which models are chosen: nothing where all are."""
    parts = [f"{key} {' or '.join(map(str, values))}" for key, values in where.items()]
    return f" where {', '.join(parts)}" if parts else ""


def selected(
    frame: pd.DataFrame, where: Mapping[str, Sequence[Any]], *, place: str = "report.claims.where"
) -> NDArray[np.bool_]:
    """Which rows have one of the values in each of these columns; shape [N]."""
    chosen = np.ones(len(frame), dtype=bool)
    for name, values in where.items():
        own = column(frame, name, place=place)
        chosen &= (own.isin(values) | (own.isna() & (NONE in values))).to_numpy()
    return chosen


def column(frame: pd.DataFrame, name: str, *, place: str) -> pd.Series:
    """A column of the models, or an option of their architectures, None where one has it not.

    Raises `InputError` where there is neither.
    """
    if name in frame.columns:
        return pd.Series(frame[name])
    texts = list(frame["options"]) if "options" in frame else ["{}"] * len(frame)
    options = [json.loads(str(text)) for text in texts]
    if not any(name in own for own in options):
        raise InputError(
            place,
            repr(name),
            f"a column of the models, such as {', '.join(map(str, frame.columns[:12]))}",
            "correct it",
        )
    return pd.Series([own.get(name) for own in options], index=frame.index, name=name)


def numbers(frame: pd.DataFrame, name: str, *, place: str) -> NDArray[np.float64]:
    """The same column as numbers [N]; an error is 1 less the accuracy.

    Raises `InputError` where it is none.
    """
    if name in ("train_error", "test_error"):
        return 1 - numbers(frame, name.replace("error", "accuracy"), place=place)
    own = column(frame, name, place=place)
    try:
        return np.asarray(own, dtype=float)
    except (TypeError, ValueError):
        found = f"{name!r}, which holds {own.dropna().iloc[0]!r}"
        raise InputError(place, found, "a column of numbers", "name another") from None
