"""Rank correlation against parameters per training example, a panel for each predictor."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import MUTED, Look, entitle, log_axis, looks, panels, styled


def parameter_ratio(
    table: pd.DataFrame,
    *,
    columns: int = 3,
    width: float = 10.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """One point a setting: P/n across, tau up with its interval, a panel for each predictor.

    `table` has the columns predictor, architecture (colour, marker and line), ratio (parameters
    over training examples, positive), kendall, kendall.low and kendall.high; the points of one
    architecture are joined in the order of the ratio. What is nan is left out. `width` is in
    inches. Raises `InputError` for a missing column and where no point has both numbers.
    """
    require(table, "predictor", "architecture", "ratio", "kendall", "kendall.low", "kendall.high")
    known = np.isfinite(numbers(table, "kendall")) & (numbers(table, "ratio") > 0)
    points = table.loc[known]
    predictors = group(points, "predictor", what="a setting with a ratio and a correlation")
    look = looks(map(str, points["architecture"]))
    with styled():
        grid = panels(figure, len(predictors), columns=columns, width=width, height=2.6)
        entitle(grid, predictors)
        for axes, frame in zip(grid, predictors.values(), strict=True):
            axes.axhline(0, color=MUTED, linewidth=0.8, zorder=1)
            for name, rows in group(frame, "architecture", what="").items():
                _line(axes, rows, look[name], name)
        _frame(grid, numbers(points, "ratio"))
    return grid


def _line(axes: Axes, rows: pd.DataFrame, look: Look, name: str) -> None:
    order = np.argsort(numbers(rows, "ratio"), kind="stable")
    names = ("ratio", "kendall", "kendall.low", "kendall.high")
    x, y, low, high = (numbers(rows, column)[order] for column in names)
    axes.vlines(x, low, high, color=look.colour, linewidth=0.8, alpha=0.5, zorder=2)
    axes.plot(
        x,
        y,
        color=look.colour,
        marker=look.marker,
        markersize=4.5,
        linestyle=look.line,
        linewidth=1.1,
        label=name,
        zorder=3,
    )


def _frame(grid: list[Axes], ratio: NDArray[np.float64]) -> None:
    low, high = float(ratio.min()) / 1.2, float(ratio.max()) * 1.2
    for axes in grid:
        axes.set_ylim(-1.05, 1.05)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        log_axis(axes.xaxis, low, high)
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    handles = {
        name: handle
        for axes in grid
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    count = max(1, int(figure.get_figwidth() / 1.7))
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=count)
    figure.supxlabel("P/n: parameters per training example (no unit)", fontsize=9)
    figure.supylabel("Kendall's τ with the gap (no unit)", fontsize=9)
