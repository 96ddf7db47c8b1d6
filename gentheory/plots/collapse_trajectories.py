"""The metrics of neural collapse along training, with the epoch at which training errors end."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gentheory.plots.along_training import Unit, along_training
from gentheory.plots.frame import numbers
from gentheory.plots.style import looks, remark, styled


def collapse_trajectories(
    table: pd.DataFrame,
    fitted: Mapping[str, float] | None = None,
    *,
    by: Unit = "epoch",
    columns: int = 3,
    width: float = 10.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """`along_training` with an axis of its own for each metric.

    `table` has the columns panel (the metric), series, epoch or steps, as `by` says, value, low
    and high. `fitted` has, by series, the epoch (or the steps) from which on the training error
    is zero: an upright line in the series' look, to whose right the terminal phase lies. `width`
    is in inches. Raises `InputError` as `along_training` does.
    """
    with styled():
        grid = along_training(
            table,
            quantity="metric (no unit; 0: collapsed)",
            by=by,
            share=False,
            columns=columns,
            width=width,
            figure=figure,
        )
        checkpoints = np.unique(numbers(table, by))
        look = looks(map(str, table["series"]))
        for series, time in (fitted or {}).items():
            place = time
            if by == "epoch":
                place = float(np.interp(time, checkpoints, np.arange(len(checkpoints))))
            for axes in grid:
                axes.axvline(place, color=look[series].colour, linestyle=look[series].line, lw=0.9)
        if fitted:
            remark(grid[0], "upright: zero training error")
    return grid
