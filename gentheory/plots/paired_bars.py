"""Paired differences as bars with intervals, told apart by whether they are beyond doubt."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import INK, MUTED, entitle, panels, styled

_BETTER: dict[str, Any] = {"facecolor": "#0173b2", "edgecolor": "#0173b2"}
_WORSE: dict[str, Any] = {"facecolor": "#de8f05", "edgecolor": "#8f5c03", "hatch": "////"}
_OPEN: dict[str, Any] = {"facecolor": "white", "edgecolor": MUTED}


def paired_bars(
    table: pd.DataFrame,
    *,
    quantity: str,
    columns: int = 4,
    width: float = 12.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """A bar for each difference, lower is better, with a line for its interval.

    `table` has one row a panel and name and the columns panel, name, difference, low, high and
    certain: filled bars, hatched where the name is worse, are beyond doubt, hollow ones are not.
    What is nan is left blank. `quantity` names the difference with its unit; `width` is in
    inches. Raises `InputError` for a missing column and for a table without rows.
    """
    require(table, "panel", "name", "difference", "low", "high", "certain")
    groups = group(table, "panel", what="a difference")
    names = list(dict.fromkeys(str(name) for name in table["name"]))
    height = 0.24 * len(names) + 0.5
    with styled():
        grid = panels(figure, len(groups), columns=columns, width=width, height=height)
        entitle(grid, groups, margin=2.2)
        for axes, frame in zip(grid, groups.values(), strict=True):
            _bars(axes, frame, names)
        _frame(grid, names, quantity)
    return grid


def _bars(axes: Axes, frame: pd.DataFrame, names: list[str]) -> None:
    places = np.array([names.index(str(name)) for name in frame["name"]], dtype=float)
    value, low, high = (numbers(frame, name) for name in ("difference", "low", "high"))
    for place, length, certain in zip(places, value, frame["certain"], strict=True):
        if np.isfinite(length):
            look = (_BETTER if length < 0 else _WORSE) if certain else _OPEN
            axes.barh(place, length, height=0.62, linewidth=0.7, zorder=2, **look)
    axes.hlines(places, low, high, color=INK, linewidth=1.2, zorder=3)


def _frame(grid: list[Axes], names: list[str], quantity: str) -> None:
    for axes in grid:
        axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_yticks(range(len(names)), labels=names)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=4)
        axes.set_ylim(len(names) - 0.45, -0.6)
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    handles = [Patch(**look) for look in (_BETTER, _WORSE, _OPEN)]
    labels = ["better beyond doubt", "worse beyond doubt", "not told apart"]
    columns = 3 if figure.get_figwidth() > 6 else 1
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)
    figure.supxlabel(quantity, fontsize=9)
