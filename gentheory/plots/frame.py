"""Columns and groups of a table, checked before anything is drawn."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Plane:
    """Numbers on a regular grid of two coordinates, both rising."""

    first: NDArray[np.float64]
    """Shape [A]."""
    second: NDArray[np.float64]
    """Shape [B]."""
    columns: dict[str, NDArray[np.float64]]
    """Each [B, A]; nan where a number is not finite."""


def plane(table: pd.DataFrame, *columns: str) -> Plane:
    """The columns as matrices over the coordinates `first` and `second`.

    Raises `InputError` for a missing column, a grid that is not whole or has less than two points
    a side, and where the first column has no finite number.
    """
    require(table, "first", "second", *columns)
    places = [np.unique(numbers(table, name), return_inverse=True) for name in ("first", "second")]
    (first, across), (second, up) = places
    shape = len(second), len(first)
    filled = np.zeros(shape, dtype=int)
    np.add.at(filled, (up, across), 1)
    if min(shape) < 2 or not (filled == 1).all():
        found = f"{len(table)} points on {shape[1]} × {shape[0]} coordinates"
        cure = "give every pair of coordinates once"
        raise InputError("table", found, "a whole grid, 2 × 2 or more", cure)
    matrices = {name: np.full(shape, np.nan) for name in columns}
    for name, matrix in matrices.items():
        value = numbers(table, name)
        matrix[up, across] = np.where(np.isfinite(value), value, np.nan)
    if not np.isfinite(matrices[columns[0]]).any():
        cure = "leave this figure out"
        raise InputError("table", f"no finite {columns[0]}", "at least one", cure)
    return Plane(first, second, matrices)
