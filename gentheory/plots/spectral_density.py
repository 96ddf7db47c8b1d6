"""Spectral densities of curvature matrices, a panel a matrix, with the outliers marked."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import INK, Look, entitle, log_axis, looks, panels, styled

_NEGLIGIBLE = 1e-9
"""Of the highest density; what is lower is the kernel's tail, or rounding."""
_BESIDE = {"color": INK, "linewidth": 0.8, "zorder": 4}


def spectral_density(
    table: pd.DataFrame,
    outliers: pd.DataFrame | None = None,
    *,
    columns: int = 2,
    width: float = 8.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """Density of the eigenvalues (logarithmic) against the eigenvalue, with a band.

    `table` has the columns series (a panel each, such as Hessian and GGN), eigenvalue, density,
    low and high; `outliers` has series, eigenvalue and stderr, a triangle each at the foot of its
    series' panel, with a bar of one standard error. Eigenvalues and axes are shared among panels.
    The eigenvalues' axis is symmetric-logarithmic where some are negative, linear up to a
    hundredth of the largest, and linear where none is. Densities are per unit of the eigenvalue
    and drawn down to a tenth of the lowest peak. `width` is in inches. Raises `InputError` for a
    missing column and where no density is positive.
    """
    require(table, "series", "eigenvalue", "density", "low", "high")
    positive = numbers(table, "density") > 0
    series = group(table.loc[positive], "series", what="a positive density")
    marks = _by_series(outliers)
    look = looks(series)
    with styled():
        grid = panels(figure, len(series), columns=columns, width=width, height=2.8)
        entitle(grid, series, margin=0.9)
        for axes, (name, rows) in zip(grid, series.items(), strict=True):
            _curve(axes, rows, look[name])
            _triangles(axes, marks.get(name), look[name])
        _scale(grid, series, marks)
        _label(grid, any(name in marks for name in series))
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


def _triangles(axes: Axes, rows: pd.DataFrame | None, look: Look) -> None:
    """At a twentieth of the panel's height, whatever the densities are."""
    if rows is None:
        return
    across, error = numbers(rows, "eigenvalue"), np.nan_to_num(numbers(rows, "stderr"))
    height = np.full(len(rows), 0.05)
    foot = axes.get_xaxis_transform()
    axes.hlines(height, across - error, across + error, transform=foot, **_BESIDE)
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
        label="outliers, ± one standard error",
        zorder=5,
    )


def _scale(
    grid: list[Axes], series: dict[str, pd.DataFrame], marks: dict[str, pd.DataFrame]
) -> None:
    floors, tops, ends = zip(*map(_limits, series.values()), strict=True)
    low, high = min(floors) / 10, max(tops) * 2
    beside = [numbers(marks[name], "eigenvalue") for name in series if name in marks]
    least, most = (pick(np.concatenate([*ends, *beside])) for pick in (np.min, np.max))
    for axes in grid:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        log_axis(axes.yaxis, low, high)
        _across(axes, float(least), float(most))


def _limits(rows: pd.DataFrame) -> tuple[float, float, NDArray[np.float64]]:
    """The lowest peak, the highest, and the ends of what is not negligible between."""
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
