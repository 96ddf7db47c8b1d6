"""Accuracy on an environment kept out of training against that on the training environments."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import INK, Look, entitle, looks, panels, styled


def accuracy_shift(
    models: pd.DataFrame,
    curve: pd.DataFrame,
    *,
    columns: int = 2,
    width: float = 12.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """A faint point a model: `id` across, `shifted` up; over them the means of a `curve`.

    `models` has the columns data (a panel each), trained_by (colour and marker), id and shifted;
    `curve` has these and shifted.low and shifted.high, one row a mean. Accuracies are shares of
    1, and both axes of a panel are its own. On the dashed line both accuracies are the same.
    `width` is in inches. Raises `InputError` for a missing column and for a table without rows.
    """
    require(models, "data", "trained_by", "id", "shifted")
    require(curve, "data", "trained_by", "id", "shifted", "shifted.low", "shifted.high")
    groups = group(models, "data", what="a model with a shifted accuracy")
    means = group(curve, "data", what="a mean of shifted accuracies")
    look = looks(map(str, models["trained_by"]))
    with styled():
        grid = panels(figure, len(groups), columns=columns, width=width, height=4.0, share=False)
        entitle(grid, groups)
        for axes, (data, frame) in zip(grid, groups.items(), strict=True):
            _identity(axes, frame)
            for name, rows in group(frame, "trained_by", what="").items():
                _points(axes, rows, look[name])
            for name, rows in group(means[data], "trained_by", what="").items():
                _means(axes, rows, look[name], name)
            axes.set_xlabel("in-distribution accuracy")
            axes.set_ylabel("shifted accuracy")
            axes.legend(loc="best")
    return grid


def _identity(axes: Axes, frame: pd.DataFrame) -> None:
    x, y = numbers(frame, "id"), numbers(frame, "shifted")
    ends = [max(x.min(), y.min()), min(x.max(), y.max())]
    if ends[0] < ends[1]:
        axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=2)


def _points(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    axes.plot(
        numbers(rows, "id"),
        numbers(rows, "shifted"),
        color=look.colour,
        marker=look.marker,
        markersize=2.5,
        markeredgewidth=0,
        linestyle="none",
        alpha=0.4,
        zorder=3,
    )


def _means(axes: Axes, rows: pd.DataFrame, look: Look, name: str) -> None:
    x, y = numbers(rows, "id"), numbers(rows, "shifted")
    low, high = numbers(rows, "shifted.low"), numbers(rows, "shifted.high")
    known = np.isfinite(low)
    axes.vlines(x[known], low[known], high[known], color=look.colour, linewidth=0.9, zorder=4)
    axes.plot(
        x,
        y,
        color=look.colour,
        marker=look.marker,
        markersize=5,
        linestyle=look.line,
        linewidth=1.3,
        label=name,
        zorder=5,
    )
