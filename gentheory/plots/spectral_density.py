"""Spectral densities of curvature matrices, a panel a matrix, with the outliers marked."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import INK, Look, entitle, log_axis, looks, panels, styled

_NEGLIGIBLE = 1e-9
"""Of the highest density; what is lower is the kernel's tail, or rounding."""


def spectral_density(
    table: pd.DataFrame,
    outliers: pd.DataFrame | None = None,
    *,
    marks: str = "outliers, ± one standard error",
    columns: int = 2,
    width: float = 8.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """Density of the eigenvalues (logarithmic) against the eigenvalue, with a band.

    `table` has the columns series (a panel each, such as Hessian and GGN), eigenvalue, density,
    low and high; `outliers` has series, eigenvalue and stderr, a triangle each at the foot of its
    series' panel, with a bar of the error on either side; `marks` names them. Panels share their
    axes. That of the eigenvalues is symmetric-logarithmic where some are negative, linear up to
    about a hundredth of the largest, and linear throughout where none is. Densities are per unit
    of the eigenvalue and drawn down to a tenth of the lowest peak; where one is not positive, the
    line has a gap. `width` is in inches. Raises `InputError` for a missing column and where no
    density of a series is positive.
    """
    require(table, "series", "eigenvalue", "density", "low", "high")
    height = numbers(table, "density")
    table = table.assign(density=np.where(height > 0, height, np.nan))
    series = group(table, "series", what="a density")
    for name, rows in series.items():
        if not np.isfinite(numbers(rows, "density")).any():
            cure = "leave this series out"
            raise InputError(f"table, {name}", "no positive density", "at least one", cure)
    outside = _by_series(outliers)
    look = looks(series)
    with styled():
        grid = panels(figure, len(series), columns=columns, width=width, height=2.8)
        entitle(grid, series, margin=0.9)
        for axes, (name, rows) in zip(grid, series.items(), strict=True):
            _curve(axes, rows, look[name])
            _triangles(axes, outside.get(name), look[name], marks)
        _scale(grid, series, outside)
        _label(grid, any(name in outside for name in series))
    return grid


def _by_series(outliers: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
    if outliers is None or outliers.empty:
        return {}
    require(outliers, "series", "eigenvalue", "stderr")
    return group(outliers, "series", what="an outlier")


def _curve(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    across, density, low, high = (
        numbers(rows, name) for name in ("eigenvalue", "density", "low", "high")
    )
    low = np.where(low > 0, low, np.finfo(float).tiny)
    axes.fill_between(across, low, high, color=look.colour, alpha=0.25, linewidth=0)
    axes.plot(across, density, color=look.colour, linestyle=look.line, linewidth=1.3, zorder=3)


def _triangles(axes: Axes, rows: pd.DataFrame | None, look: Look, label: str) -> None:
    """At a twentieth of the panel's height, whatever the densities are."""
    if rows is None:
        return
    across, error = numbers(rows, "eigenvalue"), np.nan_to_num(numbers(rows, "stderr"))
    height = np.full(len(rows), 0.05)
    foot = axes.get_xaxis_transform()
    axes.hlines(height, across - error, across + error, transform=foot, color=INK, lw=0.8)
    axes.plot(
        across,
        height,
        linestyle="none",
        marker="^",
        markersize=5,
        markerfacecolor=look.colour,
        markeredgecolor=INK,
        markeredgewidth=0.7,
        transform=foot,
        label=label,
        zorder=5,
    )


def _scale(
    grid: list[Axes], series: dict[str, pd.DataFrame], outside: dict[str, pd.DataFrame]
) -> None:
    floors, tops, ends = zip(*map(_limits, series.values()), strict=True)
    low, high = min(floors) / 10, max(tops) * 2
    beside = [numbers(outside[name], "eigenvalue") for name in series if name in outside]
    least, most = (pick(np.concatenate([*ends, *beside])) for pick in (np.min, np.max))
    for axes in grid:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        log_axis(axes.yaxis, low, high)
        _across(axes, float(least), float(most))


def _limits(rows: pd.DataFrame) -> tuple[float, float, NDArray[np.float64]]:
    """The lowest peak, the highest, and the ends of what is not negligible between."""
    rows = rows.loc[np.isfinite(numbers(rows, "density"))]
    density, across = numbers(rows, "density"), numbers(rows, "eigenvalue")
    order = np.argsort(across)
    density, across = density[order], across[order]
    top = float(density.max())
    padded = np.concatenate([[0.0], density, [0.0]])
    peaks = density[(density >= padded[:-2]) & (density > padded[2:])]
    floor = float(peaks[peaks > _NEGLIGIBLE * top].min())
    shown = across[density > floor / 10]
    return floor, top, shown[[0, -1]]


def _across(axes: Axes, low: float, high: float) -> None:
    if low >= 0:
        axes.set_xlim(low, high + 0.05 * (high - low))
        axes.locator_params(axis="x", nbins=5)
        return
    largest = max(-low, high)
    linear = 10.0 ** np.ceil(np.log10(largest / 100))
    axes.set_xscale("symlog", linthresh=linear, linscale=0.7)
    powers = [linear * 10**place for place in range(int(np.log10(largest / linear)) + 1)]
    ticks = [tick for tick in (*(-p for p in powers[::-1]), 0.0, *powers) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axes.xaxis.minorticks_off()
    axes.set_xlim(1.5 * low if low < -linear else low - 0.3 * linear, 1.5 * high)


def _label(grid: list[Axes], marked: bool) -> None:
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    figure.supxlabel("eigenvalue (loss per squared parameter)", fontsize=9)
    figure.supylabel("density (per unit of the eigenvalue)", fontsize=9)
    if marked:
        pairs = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in grid]
        lines = {label: handle for pair in pairs for handle, label in pair}
        figure.legend(lines.values(), lines.keys(), loc="outside upper left")
