"""Means and correlations at checkpoints along training, a line a series and a panel a setting."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import MUTED, Look, entitle, log_axis, looks, panels, remark, styled

Column = NDArray[np.float64]

MAX_PANELS = 12
_MAX_TICKS = 8


def along_training(
    table: pd.DataFrame,
    *,
    quantity: str,
    limits: tuple[float, float] | None = None,
    columns: int = 4,
    width: float = 12.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """Each series' value at every checkpoint, joined, with a band from `low` to `high`.

    `table` has the columns panel, series, epoch, value, low and high; what is not finite breaks
    the line. Checkpoints stand at equal distances. With `limits` the axis is linear between
    them, with a line at 0; without, it is logarithmic where most values are positive, and the
    others are counted in their panel. `quantity` names the axis; `width` is in inches. Raises
    `InputError` for a missing column, for no rows, and for more than 12 panels.
    """
    require(table, "panel", "series", "epoch", "value", "low", "high")
    groups = group(table, "panel", what="a checkpoint")
    if len(groups) > MAX_PANELS:
        raise InputError("table", f"{len(groups)} panels", f"at most {MAX_PANELS}", "choose some")
    look, epochs = looks(map(str, table["series"])), np.unique(numbers(table, "epoch"))
    value = numbers(table, "value")
    logarithmic = limits is None and bool((value[np.isfinite(value)] > 0).mean() > 0.5)
    with styled():
        grid = panels(figure, len(groups), columns=columns, width=width, height=2.6)
        entitle(grid, groups)
        for axes, frame in zip(grid, groups.values(), strict=True):
            for name, rows in group(frame, "series", what="").items():
                _line(axes, rows, look[name], epochs, logarithmic=logarithmic)
            hidden = int((numbers(frame, "value") <= 0).sum()) if logarithmic else 0
            if hidden:
                remark(axes, f"{hidden} not positive, not shown")
        _scale(grid, table, epochs, limits, logarithmic=logarithmic)
        _label(grid, quantity)
    return grid


def _line(axes: Axes, rows: pd.DataFrame, look: Look, epochs: Column, *, logarithmic: bool) -> None:
    place = np.searchsorted(epochs, numbers(rows, "epoch"))
    shown = np.full((3, len(epochs)), np.nan)
    for column, name in enumerate(("value", "low", "high")):
        shown[column, place] = numbers(rows, name)
    if logarithmic:
        shown[:, ~(shown[0] > 0)] = np.nan
        shown[1] = np.where(shown[1] > 0, shown[1], np.finfo(float).tiny)
    across = np.arange(len(epochs))
    colour = look.colour
    axes.fill_between(across, shown[1], shown[2], color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        across,
        shown[0],
        color=colour,
        marker=look.marker,
        markersize=3.5,
        linestyle=look.line,
        linewidth=1.2,
        label=str(rows["series"].iloc[0]),
        zorder=3,
    )


def _scale(
    grid: list[Axes],
    table: pd.DataFrame,
    epochs: Column,
    limits: tuple[float, float] | None,
    *,
    logarithmic: bool,
) -> None:
    value = numbers(table, "value")
    value = value[np.isfinite(value) & ((value > 0) | (not logarithmic))]
    step = -(-len(epochs) // _MAX_TICKS)
    for axes in grid:
        # The last checkpoint has its number, whichever others do.
        ticks = np.arange(len(epochs))[::-1][::step][::-1]
        axes.set_xticks(ticks, [f"{epochs[tick]:g}" for tick in ticks])
        axes.set_xlim(-0.3, len(epochs) - 0.7)
        if limits is not None:
            axes.set_ylim(*limits)
        if logarithmic:
            low, high = float(value.min()) / 1.5, float(value.max()) * 1.5
            axes.set_yscale("log")
            axes.set_ylim(low, high)
            log_axis(axes.yaxis, low, high)
        else:
            axes.axhline(0, color=MUTED, linewidth=0.8, zorder=1)


def _label(grid: list[Axes], quantity: str) -> None:
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    figure.supxlabel("epoch (checkpoints at equal distances)", fontsize=9)
    figure.supylabel(quantity, fontsize=9)
    lines = dict(pair for axes in grid for pair in _named(axes))
    count = 4 if figure.get_figwidth() > 6 else 1
    figure.legend(lines.values(), lines.keys(), loc="outside upper left", ncols=count)


def _named(axes: Axes) -> Iterator[tuple[str, Artist]]:
    handles, labels = axes.get_legend_handles_labels()
    return zip(labels, handles, strict=True)
