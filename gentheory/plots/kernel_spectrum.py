"""Eigenvalues of kernels against their place, both logarithmic."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import Look, log_axis, looks, remark, styled

_MARKS = 12


def kernel_spectrum(
    table: pd.DataFrame,
    *,
    quantity: str = "eigenvalue of K / N\n(squared output per squared parameter)",
    width: float = 5.0,
    axes: Axes | None = None,
) -> Axes:
    """Each series' eigenvalues, the largest first, on logarithmic axes.

    `table` has the columns series, index (from 1) and eigenvalue; with low and high there is a
    band between. What is not positive is counted and left out. `quantity` names the eigenvalue
    with its unit; `width` is in inches. Raises `InputError` for a missing column and where no
    eigenvalue is positive.
    """
    require(table, "series", "index", "eigenvalue")
    positive = numbers(table, "eigenvalue") > 0
    series = group(table.loc[positive], "series", what="a positive eigenvalue")
    look = looks(series)
    with styled():
        axes = axes if axes is not None else _new(width)
        for name, rows in series.items():
            _line(axes, rows, name, look[name])
        _scale(axes, table.loc[positive])
        axes.set_xlabel("index of the eigenvalue, the largest first")
        axes.set_ylabel(quantity)
        axes.legend(loc="lower left")
        hidden = int((~positive).sum())
        if hidden:
            remark(axes, f"{hidden} not positive, not shown")
    return axes


def _new(width: float) -> Axes:
    return Figure(figsize=(width, 0.7 * width), layout="constrained").subplots()


def _line(axes: Axes, rows: pd.DataFrame, name: str, look: Look) -> None:
    rows = rows.iloc[np.argsort(numbers(rows, "index"), kind="stable")]
    place, value = numbers(rows, "index"), numbers(rows, "eigenvalue")
    if {"low", "high"} <= set(rows.columns):
        low = np.where(numbers(rows, "low") > 0, numbers(rows, "low"), np.finfo(float).tiny)
        high = numbers(rows, "high")
        axes.fill_between(place, low, high, color=look.colour, alpha=0.2, linewidth=0)
    axes.plot(
        place,
        value,
        color=look.colour,
        linestyle=look.line,
        linewidth=1.2,
        marker=look.marker,
        markersize=3.5,
        markevery=_evenly(len(rows)),
        label=name,
        zorder=3,
    )


def _evenly(count: int) -> list[int]:
    """Places of a few marks at equal distances on a logarithmic axis, the ends among them."""
    places = np.geomspace(1, count, min(_MARKS, count)).round().astype(int) - 1
    return sorted(set(places.tolist()))


def _scale(axes: Axes, table: pd.DataFrame) -> None:
    value, place = numbers(table, "eigenvalue"), numbers(table, "index")
    low, high = float(value.min()) / 1.5, float(value.max()) * 1.5
    first, last = float(place.min()) / 1.1, float(place.max()) * 1.1
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(first, last)
    axes.set_ylim(low, high)
    log_axis(axes.xaxis, first, last)
    log_axis(axes.yaxis, low, high)
