"""The measured generalization gap against a predicted one, a panel for each setting."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import INK, Look, entitle, log_axis, looks, panels, remark, styled

Column = NDArray[np.float64]

_MAX_VECTOR_POINTS = 500
"""Points and bars of a panel with more models are pixels, so that a page stays a few MB."""


def gap(
    table: pd.DataFrame,
    measure: str = "tic.exact",
    *,
    columns: int = 6,
    width: float = 12.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """One point a model: `measure` across, `gap` up, the line y = x, a panel for each `setting`.

    `table` has one row a model and the columns setting, architecture (colour and marker), gap,
    gap_stderr, `<measure>` and `<measure>.stderr`; bars are one standard error. Both axes are in
    units of the loss, shared by all panels, and logarithmic where most points are positive; the
    others are counted in their panel. `width` is in inches. Raises `InputError` for a missing
    column and where no model has both numbers.
    """
    require(table, "setting", "architecture", "gap", "gap_stderr", measure, f"{measure}.stderr")
    known = np.isfinite(numbers(table, measure)) & np.isfinite(numbers(table, "gap"))
    points = group(table.loc[known], "setting", what=f"a model with {measure} and gap")
    x, y = numbers(table.loc[known], measure), numbers(table.loc[known], "gap")
    positive = (x > 0) & (y > 0)
    shown: Callable[[Column, Column], NDArray[np.bool_]] = (
        _positive if positive.mean() > 0.5 else _all
    )
    look = looks(table["architecture"])
    with styled():
        grid = panels(figure, len(points), columns=columns, width=width, height=width / columns)
        entitle(grid, points)
        for axes, frame in zip(grid, points.values(), strict=True):
            _scatter(axes, frame, measure, shown, look[str(frame["architecture"].iloc[0])])
        kept = shown(x, y)
        _scale(grid, x[kept], y[kept], logarithmic=shown is _positive)
        _label(grid, measure)
    return grid


def _positive(x: Column, y: Column) -> NDArray[np.bool_]:
    return (x > 0) & (y > 0)


def _all(x: Column, y: Column) -> NDArray[np.bool_]:
    return np.ones(len(x), dtype=bool)


def _scatter(
    axes: Axes,
    frame: pd.DataFrame,
    measure: str,
    shown: Callable[[Column, Column], NDArray[np.bool_]],
    look: Look,
) -> None:
    x, y = numbers(frame, measure), numbers(frame, "gap")
    kept = shown(x, y)
    axes.errorbar(
        x[kept],
        y[kept],
        xerr=np.nan_to_num(numbers(frame, f"{measure}.stderr")[kept]),
        yerr=np.nan_to_num(numbers(frame, "gap_stderr")[kept]),
        fmt=look.marker,
        color=look.colour,
        markersize=3.5,
        markeredgecolor="white",
        markeredgewidth=0.4,
        elinewidth=0.6,
        alpha=0.9,
        zorder=3,
        rasterized=len(frame) > _MAX_VECTOR_POINTS,
    )
    hidden = int((~kept).sum())
    if hidden:
        remark(axes, f"{hidden} not positive, not shown")


def _scale(grid: list[Axes], x: Column, y: Column, *, logarithmic: bool) -> None:
    """Limits that hold all points and reach the line y = x; error bars may stick out."""
    middle = float(np.median(y))
    across = min(float(x.min()), middle), max(float(x.max()), middle)
    upward = float(y.min()), float(y.max())
    across, upward = (_padded(*limits, logarithmic=logarithmic) for limits in (across, upward))
    ends = [min(across[0], upward[0]), max(across[1], upward[1])]
    for axes in grid:
        axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=2)
        if logarithmic:
            axes.set_xscale("log", nonpositive="clip")
            axes.set_yscale("log", nonpositive="clip")
            log_axis(axes.xaxis, *across)
            log_axis(axes.yaxis, *upward)
        axes.set_xlim(*across)
        axes.set_ylim(*upward)


def _padded(low: float, high: float, *, logarithmic: bool) -> tuple[float, float]:
    if logarithmic:
        factor = max((high / low) ** 0.06, 1.1)
        return low / factor, high * factor
    margin = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - margin, high + margin


def _label(grid: list[Axes], measure: str) -> None:
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    figure.supxlabel(f"predicted gap, {measure} (units of the loss)", fontsize=9)
    figure.supylabel("measured gap (units of the loss)", fontsize=9)
