"""Columns and groups of a table, checked before anything is drawn."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.errors import InputError


def require(table: pd.DataFrame, *columns: str) -> None:
    """Raise `InputError` where the table lacks one of the columns."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        found, expected = f"no column {', '.join(missing)}", f"the columns {', '.join(columns)}"
        raise InputError("table", found, expected, "add what is missing or name another column")


def numbers(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """One column as float64, shape [rows]."""
    return np.asarray(table[column], dtype=float)


def group(table: pd.DataFrame, column: str, *, what: str) -> dict[str, pd.DataFrame]:
    """The rows of each value of `column`, in the order of first appearance.

    Raises `InputError` for a table without rows, which then lacks what `what` says.
    """
    if table.empty:
        raise InputError("table", "no rows", what, "leave this figure out")
    places: dict[str, list[int]] = {}
    for place, label in enumerate(table[column]):
        places.setdefault(str(label), []).append(place)
    return {label: table.iloc[rows] for label, rows in places.items()}
