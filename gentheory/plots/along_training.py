"""Means and correlations at checkpoints along training, a line a series and a panel a setting."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

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
Unit: TypeAlias = Literal["epoch", "steps"]

MAX_PANELS = 12
_MAX_TICKS = 8
_AXIS = {"epoch": "epoch (checkpoints at equal distances)", "steps": "steps of the optimizer"}


def along_training(
    table: pd.DataFrame,
    *,
    quantity: str,
    by: Unit = "epoch",
    limits: tuple[float, float] | None = None,
    share: bool = True,
    columns: int = 4,
    width: float = 12.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """Each series' value at its checkpoints, joined, with a band from `low` to `high`.

    `table` has the columns panel, series, epoch or steps, as `by` says, value, low and high; what
    is not finite breaks the line. Epochs stand at equal distances, steps on a logarithmic axis
    that is linear from 0 to the first one. With `limits` the other axis is linear between them,
    with a line at 0; without, it is logarithmic where most values are positive, and the others
    are counted in their panel. Panels share that axis unless `share` is false. `quantity` names
    it; `width` is in inches. Raises `InputError` for a missing column, for no rows, and for more
    than 12 panels.
    """
    require(table, "panel", "series", by, "value", "low", "high")
    checkpoints = np.unique(numbers(table, by))
    across = checkpoints if by == "steps" else np.arange(len(checkpoints), dtype=float)
    table = table.assign(place=np.searchsorted(checkpoints, numbers(table, by)))
    groups = group(table, "panel", what="a checkpoint")
    if len(groups) > MAX_PANELS:
        raise InputError("table", f"{len(groups)} panels", f"at most {MAX_PANELS}", "choose some")
    look, whole = looks(map(str, table["series"])), _logarithmic(table, limits)
    with styled():
        grid = panels(figure, len(groups), columns=columns, width=width, height=2.6, share=share)
        entitle(grid, groups)
        for axes, frame in zip(grid, groups.values(), strict=True):
            logarithmic = whole if share else _logarithmic(frame, limits)
            for name, rows in group(frame, "series", what="").items():
                _line(axes, rows, look[name], across, logarithmic=logarithmic)
            hidden = int((numbers(frame, "value") <= 0).sum()) if logarithmic else 0
            if hidden:
                remark(axes, f"{hidden} not positive, not shown")
            if not share:
                _scale([axes], frame, limits, logarithmic=logarithmic)
        if share:
            _scale(grid, table, limits, logarithmic=whole)
        _place(grid, across, checkpoints, by)
        _label(grid, quantity, by)
    return grid


def _logarithmic(table: pd.DataFrame, limits: tuple[float, float] | None) -> bool:
    value = numbers(table, "value")
    return limits is None and bool((value[np.isfinite(value)] > 0).mean() > 0.5)


def _line(axes: Axes, rows: pd.DataFrame, look: Look, across: Column, *, logarithmic: bool) -> None:
    rows = rows.sort_values("place", kind="stable")
    across = across[np.asarray(rows["place"], dtype=np.intp)]
    shown = np.stack([numbers(rows, name) for name in ("value", "low", "high")])
    if logarithmic:
        shown[:, ~(shown[0] > 0)] = np.nan
        shown[1] = np.where(shown[1] > 0, shown[1], np.finfo(float).tiny)
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
    limits: tuple[float, float] | None,
    *,
    logarithmic: bool,
) -> None:
    value = numbers(table, "value")
    value = value[np.isfinite(value) & ((value > 0) | (not logarithmic))]
    for axes in grid:
        if limits is not None:
            axes.set_ylim(*limits)
        if logarithmic:
            low, high = float(value.min()) / 1.5, float(value.max()) * 1.5
            axes.set_yscale("log")
            axes.set_ylim(low, high)
            log_axis(axes.yaxis, low, high)
        else:
            axes.axhline(0, color=MUTED, linewidth=0.8, zorder=1)


def _place(grid: list[Axes], across: Column, checkpoints: Column, by: str) -> None:
    """The axis of the checkpoints, of which as many have their number as there is room for."""
    # The last checkpoint has its number, whichever others do.
    ticks = np.arange(len(across))[::-1][:: -(-len(across) // _MAX_TICKS)][::-1]
    first = float(across[across > 0][0]) if by == "steps" and (across > 0).any() else 1.0
    for axes in grid:
        if by == "steps":
            axes.set_xscale("symlog", linthresh=first, linscale=0.3)
            axes.set_xlim(min(0.8 * first, across[0] - 0.3 * first), 1.3 * max(first, across[-1]))
            axes.xaxis.minorticks_off()
        else:
            axes.set_xlim(-0.3, len(across) - 0.7)
        axes.set_xticks(across[ticks], [f"{checkpoints[tick]:g}" for tick in ticks])


def _label(grid: list[Axes], quantity: str, by: str) -> None:
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    figure.supxlabel(_AXIS[by], fontsize=9)
    figure.supylabel(quantity, fontsize=9)
    lines = dict(pair for axes in grid for pair in _named(axes))
    count = 4 if figure.get_figwidth() > 6 else 1
    figure.legend(lines.values(), lines.keys(), loc="outside upper left", ncols=count)


def _named(axes: Axes) -> Iterator[tuple[str, Artist]]:
    handles, labels = axes.get_legend_handles_labels()
    return zip(labels, handles, strict=True)
