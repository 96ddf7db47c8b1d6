"""Both ends of each class's own curvature spectrum, and their ratio, the frequent classes first."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import MUTED, Look, entitle, log_axis, looks, panels, remark, styled

_TITLES = {
    "largest": r"largest eigenvalue, $\lambda_{\max}$",
    "smallest": r"smallest eigenvalue, $\lambda_{\min}$",
    "ratio": r"saddle: $|\lambda_{\min}| / \lambda_{\max}$",
}
_UNITS = {
    "largest": "loss per squared parameter",
    "smallest": "loss per squared parameter",
    "ratio": "ratio (no unit)",
}
_MAX_LABELS = 20
_SPAN = 1e5
"""Largest over smallest number on a logarithmic axis; what is lower is nothing but rounding."""


def class_spectra(
    table: pd.DataFrame,
    *,
    columns: int = 3,
    width: float = 10.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """A point with its bar for each class and series, in three panels.

    `table` has the columns series, class, count (the class's examples), largest, smallest and
    ratio, each with its error in `<name>_error`. Classes stand in the order of their frequency,
    with their examples below where these differ; series stand beside each other. The largest
    eigenvalue and the ratio are on logarithmic axes where all are positive, down to five decades
    below the largest; what lies lower is counted. `width` is in inches. Raises `InputError` for a
    missing column and for no rows.
    """
    errors = (f"{name}_error" for name in _TITLES)
    require(table, "series", "class", "count", *_TITLES, *errors)
    series = group(table, "series", what="a class")
    look, classes = looks(series), _frequent_first(table)
    with styled():
        grid = panels(figure, len(_TITLES), columns=columns, width=width, height=2.8, share=False)
        entitle(grid, _TITLES.values())
        for axes, name in zip(grid, _TITLES, strict=True):
            for place, (label, rows) in enumerate(series.items()):
                shift = 0.6 * ((place + 0.5) / len(series) - 0.5)
                _points(axes, rows, name, list(classes), shift, look[label])
            _scale(axes, numbers(table, name), logarithmic=name != "smallest")
            _frame(axes, classes)
            axes.set_ylabel(_UNITS[name])
        _label(grid, many=len(series) > 1)
    return grid


def _frequent_first(table: pd.DataFrame) -> dict[str, int]:
    """The examples of each class, the largest number first."""
    counts: dict[str, int] = {}
    for label, count in zip(table["class"], numbers(table, "count"), strict=True):
        counts[str(label)] = max(counts.get(str(label), 0), int(count))
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _points(
    axes: Axes, rows: pd.DataFrame, name: str, classes: list[str], shift: float, look: Look
) -> None:
    axes.errorbar(
        np.array([classes.index(str(label)) for label in rows["class"]]) + shift,
        numbers(rows, name),
        yerr=np.nan_to_num(numbers(rows, f"{name}_error")),
        fmt=look.marker,
        color=look.colour,
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.4,
        elinewidth=0.9,
        capsize=1.5,
        label=str(rows["series"].iloc[0]),
        zorder=3,
    )


def _scale(axes: Axes, value: np.ndarray, *, logarithmic: bool) -> None:
    known = value[np.isfinite(value)]
    if logarithmic and len(known) and (known > 0).all():
        high = float(known.max()) * 1.5
        low = max(float(known.min()), high / _SPAN) / 1.5
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(low, high)
        log_axis(axes.yaxis, low, high)
        hidden = int((known < low).sum())
        if hidden:
            remark(axes, f"{hidden} lower, not shown")
    else:
        axes.axhline(0, color=MUTED, linewidth=0.8, zorder=1)


def _frame(axes: Axes, classes: dict[str, int]) -> None:
    step = -(-len(classes) // _MAX_LABELS)
    places = range(0, len(classes), step)
    labels, counts = list(classes), list(classes.values())
    differ = len(set(counts)) > 1
    named = [f"{labels[p]} ({counts[p]})" if differ else labels[p] for p in places]
    axes.set_xticks(places, labels=named, rotation=90 if max(map(len, named)) > 2 else 0)
    axes.set_xlim(-0.6, len(classes) - 0.4)
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)


def _label(grid: list[Axes], *, many: bool) -> None:
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    figure.supxlabel("class (its examples), the most frequent first", fontsize=9)
    if many:
        count = 4 if figure.get_figwidth() > 6 else 2
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=count)
