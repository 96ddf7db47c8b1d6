"""The loss on a plane through parameter space as contours, with the way that training took."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from gentheory.plots.frame import Plane, numbers, plane, require
from gentheory.plots.style import INK, entitle, panels, remark, styled

_COLOURS = "cividis"
"""Even in grey, and the same for every kind of colour vision."""
_WAY = "#d55e00"
_WIDE = 3.0
"""Largest over smallest loss from which on the levels are logarithmic."""


def slice_contour(
    table: pd.DataFrame,
    trajectory: pd.DataFrame | None = None,
    *,
    names: tuple[str, str] = ("first direction", "second direction"),
    levels: int = 12,
    columns: int = 2,
    width: float = 9.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """Contours of the loss on a regular grid and, where there is one, of the accuracy beside it.

    `table` has the columns first, second and loss, and perhaps accuracy, a share, drawn in per
    cent. The `levels` of the loss are at equal ratios where the largest is three times the
    smallest or more, else at equal distances; darker is lower. `trajectory` has the columns step,
    first and second: a line with a point a checkpoint, a square where it begins and a star where
    it ends; what lies beyond the grid is cut off and counted. A loss that is not finite is left
    white. `names` are those of the coordinates with their units; `width` is in inches. Raises
    `InputError` for a missing column, for no finite loss and for a grid that is not whole.
    """
    shown = ["loss", *(["accuracy"] if "accuracy" in table.columns else [])]
    grid = plane(table, *shown)
    way = _ordered(trajectory)
    with styled():
        panes = panels(figure, len(shown), columns=columns, width=width, height=3.4)
        titles = {"loss": "loss (units of the loss)", "accuracy": "accuracy (%)"}
        entitle(panes, [titles[name] for name in shown])
        for axes, name in zip(panes, shown, strict=True):
            _contours(axes, grid, name, levels)
            _way(axes, grid, way)
        _label(panes, names, drawn=len(way) > 0)
    return panes


def _ordered(trajectory: pd.DataFrame | None) -> NDArray[np.float64]:
    """The points [T, 2] in the order of their steps."""
    if trajectory is None or trajectory.empty:
        return np.empty((0, 2))
    require(trajectory, "step", "first", "second")
    order = np.argsort(numbers(trajectory, "step"), kind="stable")
    return np.stack([numbers(trajectory, name)[order] for name in ("first", "second")], axis=1)


def _contours(axes: Axes, grid: Plane, name: str, levels: int) -> None:
    value = grid.columns[name] * (100 if name == "accuracy" else 1)
    low, high = float(np.nanmin(value)), float(np.nanmax(value))
    if name == "loss" and low > 0 and high > _WIDE * low:
        heights, norm = np.geomspace(low, high, levels + 1), LogNorm(low, high)
    elif name == "accuracy":
        heights, norm = np.linspace(0, 100, 11), Normalize(0, 100)
    else:
        high = high if high > low else low + (abs(low) or 1.0)
        heights, norm = np.linspace(low, high, levels + 1), Normalize(low, high)
    # Rounding must not put the ends beyond the levels.
    inside = np.clip(np.ma.masked_invalid(value), heights[0], heights[-1])
    place = grid.first, grid.second, inside
    filled = axes.contourf(*place, levels=heights, cmap=_COLOURS, norm=norm)
    lines = axes.contour(*place, levels=heights[1:-1], colors=INK, linewidths=0.4)
    _key(axes, filled, heights)
    for text in axes.clabel(lines, heights[2:-1:3], fontsize=6, fmt=_short):
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6})
    hidden = int((~np.isfinite(value)).sum())
    if hidden:
        remark(axes, f"{hidden} not finite, white")


def _key(axes: Axes, filled: QuadContourSet, heights: NDArray[np.float64]) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    step = max(1, (len(heights) - 1) // 4)
    bar = figure.colorbar(filled, ax=axes, ticks=heights[::step], pad=0.02, aspect=25)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−").replace("e−0", "e−").replace("e+0", "e")


def _way(axes: Axes, grid: Plane, points: NDArray[np.float64]) -> None:
    axes.set_xlim(grid.first[0], grid.first[-1])
    axes.set_ylim(grid.second[0], grid.second[-1])
    axes.grid(visible=False)
    axes.locator_params(nbins=5)
    if not len(points):
        return
    # White below the colour, so that it stands out from dark and from light ground.
    axes.plot(*points.T, color="white", linewidth=3.2, zorder=3)
    axes.plot(
        *points.T,
        color=_WAY,
        linewidth=1.4,
        marker="o",
        markersize=4,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label="training",
        zorder=4,
    )
    for place, marker, size, label in ((0, "s", 7, "begin"), (-1, "*", 13, "end")):
        axes.plot(
            *points[place],
            linestyle="none",
            marker=marker,
            markersize=size,
            markerfacecolor=_WAY,
            markeredgecolor="white",
            label=label,
            zorder=5,
        )
    ends = (grid.first[[0, -1]], grid.second[[0, -1]])
    outside = sum(
        not all(low <= at <= high for at, (low, high) in zip(point, ends, strict=True))
        for point in points
    )
    if outside:
        remark(axes, f"{outside} of {len(points)} checkpoints beyond")


def _label(panes: list[Axes], names: tuple[str, str], *, drawn: bool) -> None:
    figure = panes[0].get_figure(root=True)
    assert figure is not None
    figure.supxlabel(names[0], fontsize=9)
    figure.supylabel(names[1], fontsize=9)
    if drawn:
        figure.legend(*panes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
