"""Gram matrices of class means beside that of the frame they should have, as colours."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gentheory.plots.cells import paint
from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import entitle, panels, styled

MAX_WRITTEN = 10
"""Largest matrix that has its numbers in the cells; others have a scale of the colours."""


def gram_matrix(
    table: pd.DataFrame,
    *,
    quantity: str = "cosine",
    columns: int = 3,
    width: float = 10.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """A matrix a panel, orange below 0 and blue above, on a scale common to all.

    `table` has the columns panel, row, column and value; rows and columns are classes, in the
    order of first appearance. Up to ten classes have the numbers written in the cells. `quantity`
    names the value; `width` is in inches. Raises `InputError` for a missing column and for no
    rows.
    """
    require(table, "panel", "row", "column", "value")
    groups = group(table, "panel", what="a matrix")
    matrices = {name: _matrix(rows) for name, rows in groups.items()}
    size = max(len(labels) for labels, _ in matrices.values())
    values = np.concatenate([value.ravel() for _, value in matrices.values()])
    limit = float(np.nanmax(np.abs(values))) or 1.0
    written = size <= MAX_WRITTEN
    with styled():
        columns = min(columns, len(groups))
        side = min(3.1, (width - 0.5) / columns)
        grid = panels(figure, len(groups), columns=columns, width=width, height=side, share=False)
        entitle(grid, matrices)
        # A cell's number has four letters of 0.6 of the font's size, in points.
        letters = min(7.5, 72 * (side - 0.4) / size / 2.6) if written else None
        mesh = None
        for axes, (labels, value) in zip(grid, matrices.values(), strict=True):
            mesh = paint(axes, value, size=letters, limit=limit)
            _axes(axes, labels, first=axes in grid[::columns])
        drawn = grid[0].get_figure(root=True)
        assert drawn is not None
        if mesh is not None and not written:
            location = "right" if columns > 1 else "bottom"
            drawn.colorbar(mesh, ax=grid, label=quantity, shrink=0.8, pad=0.02, location=location)
        elif written:
            drawn.supxlabel(f"class (numbers: {quantity})", fontsize=9)
    return grid


def _matrix(rows: pd.DataFrame) -> tuple[list[str], NDArray[np.float64]]:
    labels = list(dict.fromkeys([*map(str, rows["row"]), *map(str, rows["column"])]))
    place = {label: index for index, label in enumerate(labels)}
    value = np.full((len(labels), len(labels)), np.nan)
    cells = zip(rows["row"], rows["column"], numbers(rows, "value"), strict=True)
    for row, column, number in cells:
        value[place[str(row)], place[str(column)]] = number
    return labels, value


def _axes(axes: Axes, labels: list[str], *, first: bool) -> None:
    step = -(-len(labels) // 20)
    ticks = range(0, len(labels), step)
    named = [labels[tick] for tick in ticks]
    axes.set_xticks(ticks, labels=named, fontsize=7)
    axes.set_yticks(ticks, labels=named, fontsize=7)
    axes.set_aspect("equal")
    axes.tick_params(axis="x", labeltop=False, labelbottom=True)
    if first:
        axes.set_ylabel("class")
