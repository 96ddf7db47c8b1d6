"""The loss along lines through parameter space, with bands, and the accuracy below it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import MUTED, Look, entitle, log_axis, looks, panels, remark, styled

_WIDE = 100.0
"""Largest over smallest loss from which on the axis is logarithmic."""
_BANDS = 3
"""Series up to which each has its band; of more the first alone, or they would hide the lines."""


def slice_line(
    table: pd.DataFrame,
    *,
    across: str = "distance along the direction (units of its norm)",
    columns: int = 4,
    width: float = 10.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """Loss against distance, a panel a direction, a line a series, with bands unless they are many.

    `table` has the columns panel, series, distance, loss, low and high, and perhaps accuracy, a
    share: then a second set of panels, in the same order, has it in per cent. Losses are in units
    of the loss, on a common axis, logarithmic where the largest is a hundred times the smallest
    or more. A thin line stands at distance 0; what is not finite breaks its line and is counted.
    `across` names the distance with its unit; `width` is in inches. Raises `InputError` for a
    missing column and where no loss is finite.
    """
    require(table, "panel", "series", "distance", "loss", "low", "high")
    known = np.isfinite(numbers(table, "loss"))
    directions = group(table.loc[known], "panel", what="a finite loss")
    frames = {name: table.loc[[str(p) == name for p in table["panel"]]] for name in directions}
    look = looks(map(str, table["series"]))
    shares = "accuracy" in table.columns
    with styled():
        count = len(frames) * (1 + shares)
        columns = min(columns, len(frames))
        grid = panels(figure, count, columns=columns, width=width, height=2.5, share=False)
        losses, accuracies = grid[: len(frames)], grid[len(frames) :]
        for group_of_panels in filter(None, (losses, accuracies)):
            entitle(group_of_panels, frames)
        for axes, frame in zip(losses, frames.values(), strict=True):
            _losses(axes, frame, look)
        for axes, frame in zip(accuracies, frames.values(), strict=False):
            _accuracies(axes, frame, look)
        _scale(losses, table.loc[known])
        _label(losses, accuracies, across, columns)
    return grid


def _losses(axes: Axes, frame: pd.DataFrame, look: dict[str, Look]) -> None:
    series = group(frame, "series", what="")
    banded = set(series if len(series) <= _BANDS else list(series)[:1])
    for name, rows in series.items():
        rows = rows.iloc[np.argsort(numbers(rows, "distance"), kind="stable")]
        place, low, high = (numbers(rows, column) for column in ("distance", "low", "high"))
        if name in banded:
            axes.fill_between(place, low, high, color=look[name].colour, alpha=0.2, linewidth=0)
        _line(axes, rows, numbers(rows, "loss"), look[name])
    hidden = int((~np.isfinite(numbers(frame, "loss"))).sum())
    if hidden:
        remark(axes, f"{hidden} not finite, not shown")


def _accuracies(axes: Axes, frame: pd.DataFrame, look: dict[str, Look]) -> None:
    for name, rows in group(frame, "series", what="").items():
        rows = rows.iloc[np.argsort(numbers(rows, "distance"), kind="stable")]
        _line(axes, rows, 100 * numbers(rows, "accuracy"), look[name])
    axes.set_ylim(-3, 103)
    _centre(axes)


def _line(axes: Axes, rows: pd.DataFrame, height: np.ndarray, look: Look) -> None:
    axes.plot(
        numbers(rows, "distance"),
        np.where(np.isfinite(height), height, np.nan),
        color=look.colour,
        linestyle=look.line,
        linewidth=1.3,
        marker=look.marker,
        markersize=3.5,
        markevery=max(1, len(rows) // 8),
        label=str(rows["series"].iloc[0]),
        zorder=3,
    )


def _centre(axes: Axes) -> None:
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    axes.locator_params(axis="x", nbins=5)


def _scale(losses: list[Axes], table: pd.DataFrame) -> None:
    loss = numbers(table, "loss")
    low, high = float(loss.min()), float(loss.max())
    for axes in losses:
        _centre(axes)
        if low > 0 and high > _WIDE * low:
            axes.set_yscale("log")
            axes.set_ylim(low / 1.5, high * 1.5)
            log_axis(axes.yaxis, low / 1.5, high * 1.5)
        else:
            margin = 0.06 * (high - low) or 0.1 * max(abs(high), 1.0)
            axes.set_ylim(low - margin, high + margin)


def _label(losses: list[Axes], accuracies: list[Axes], across: str, columns: int) -> None:
    for axes in losses[::columns]:
        axes.set_ylabel("loss (units of the loss)")
    for axes in accuracies[::columns]:
        axes.set_ylabel("accuracy (%)")
    figure = losses[0].get_figure(root=True)
    assert figure is not None
    figure.supxlabel(across, fontsize=9)
    pairs = [
        pair for axes in losses for pair in zip(*axes.get_legend_handles_labels(), strict=True)
    ]
    lines = {label: handle for handle, label in pairs}
    count = 4 if figure.get_figwidth() > 6 else 2
    figure.legend(lines.values(), lines.keys(), loc="outside upper left", ncols=count)
