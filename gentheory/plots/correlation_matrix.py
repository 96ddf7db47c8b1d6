"""Correlations of measures with one another, as colours, alike ones beside each other."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from gentheory.errors import InputError
from gentheory.plots.cells import paint
from gentheory.plots.frame import numbers, require
from gentheory.plots.style import styled

MAX_WRITTEN = 16
"""Largest matrix that has its numbers in the cells."""

_INCHES_PER_LETTER = 0.072
_LARGEST_CELL = 0.34


def correlation_matrix(
    table: pd.DataFrame,
    *,
    quantity: str = "Kendall's τ",
    clustered: bool = True,
    width: float = 9.0,
    axes: Axes | None = None,
) -> Axes:
    """A square of cells from −1, orange, to 1, blue; what is nan is blank.

    `table` has the columns row, column and value; a pair that is there in one order only stands
    for both, and a name is 1 with itself where the table says nothing else. `clustered` puts
    measures beside each other that order models alike, or the other way round (average linkage
    on 1 − |value|, unknown as 0); else they are in the order of first appearance. Numbers are
    written in up to 16 × 16 cells, `quantity` names them. `width` is in inches. Raises
    `InputError` for a missing column and for no rows.
    """
    require(table, "row", "column", "value")
    if table.empty:
        raise InputError("table", "no rows", "a correlation", "leave this figure out")
    names = list(dict.fromkeys([*map(str, table["row"]), *map(str, table["column"])]))
    values = _matrix(table, names)
    order = _alike(values) if clustered else list(range(len(names)))
    values, names = values[np.ix_(order, order)], [names[place] for place in order]
    label = _INCHES_PER_LETTER * max(map(len, names))
    cell = min(_LARGEST_CELL, (width - 0.9 - label) / len(names))
    with styled():
        if axes is None:
            side = cell * len(names) + label
            figure = Figure(figsize=(side + 0.9, side + 0.2), layout="constrained")
            axes = figure.subplots()
        # A number has three letters and a sign of 0.6 of the font's size, in points.
        size = min(6.5, 72 * cell / 2.6) if len(names) <= MAX_WRITTEN else None
        mesh = paint(axes, values, size=size)
        axes.set_aspect("equal")
        points = min(7.0, 72 * cell)
        axes.set_xticks(range(len(names)), labels=names, fontsize=points, rotation=90)
        axes.set_yticks(range(len(names)), labels=names, fontsize=points)
        root = axes.get_figure(root=True)
        assert root is not None
        root.colorbar(mesh, ax=axes, label=quantity, shrink=0.5, aspect=25, pad=0.02)
    return axes


def _matrix(table: pd.DataFrame, names: list[str]) -> NDArray[np.float64]:
    place = {name: index for index, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(values, 1.0)
    cells = list(zip(table["row"], table["column"], numbers(table, "value"), strict=True))
    for row, column, number in cells:
        values[place[str(column)], place[str(row)]] = number
    for row, column, number in cells:
        values[place[str(row)], place[str(column)]] = number
    return values


def _alike(values: NDArray[np.float64]) -> list[int]:
    """The order of the leaves of a tree of clusters."""
    if len(values) < 3:
        return list(range(len(values)))
    apart = 1 - np.abs(np.nan_to_num(values))
    apart = np.clip((apart + apart.T) / 2, 0, None)
    np.fill_diagonal(apart, 0.0)
    pairs = squareform(apart, checks=False)
    return leaves_list(optimal_leaf_ordering(linkage(pairs, "average"), pairs)).tolist()
