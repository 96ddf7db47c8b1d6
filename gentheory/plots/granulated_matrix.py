"""How each measure ranks along each hyper-parameter: a matrix of ψ, with Ψ and K beside it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from gentheory.plots.cells import paint
from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import INK, MUTED, styled

_BOUNDS = ("psi", "psi.low", "psi.high")
_ROW, _CELL, _INCHES_PER_LETTER = 0.25, 0.62, 0.085


def granulated_matrix(
    table: pd.DataFrame,
    *,
    summaries: tuple[str, ...] = ("Ψ", "K"),
    width: float | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Predictors down, hyper-parameters across, and the columns named in `summaries` last.

    `table` has one row a predictor and hyper-parameter (or summary) and the columns predictor,
    kind, axis, psi, psi.low and psi.high, all between -1 and 1. Numbers whose interval leaves out
    0 are bold in a thin frame; what is nan is blank. Rows are in the order of first appearance, a
    line stands between kinds. Without `axes`, a figure of its own, as wide as it takes, or with
    smaller letters about `width` inches wide. Raises `InputError` for a missing column and for a
    table without rows.
    """
    require(table, "predictor", "kind", "axis", "psi", "psi.low", "psi.high")
    predictors = group(table, "predictor", what="a predictor")
    names = list(dict.fromkeys(str(name) for name in table["axis"]))
    names = [n for n in names if n not in summaries] + [n for n in summaries if n in names]
    with styled():
        letter, cell = _sizes(list(predictors), names, width)
        axes = axes if axes is not None else _new(list(predictors), names, letter, cell)
        points = letter / _INCHES_PER_LETTER * 8
        values, low, high = (_matrix(table, c, list(predictors), names) for c in _BOUNDS)
        certain = (low > 0) | (high < 0)
        paint(axes, values, bold=certain, size=points - 0.5)
        for row, column in np.argwhere(certain & np.isfinite(values)):
            corner = column - 0.45, row - 0.42
            axes.add_patch(Rectangle(corner, 0.9, 0.84, fill=False, edgecolor=INK, linewidth=0.7))
        _lines(axes, predictors, sum(name not in summaries for name in names))
        axes.set_yticks(range(len(predictors)), labels=list(predictors), fontsize=points)
        axes.set_xticks(range(len(names)), labels=names, fontsize=points)
        for label, name in zip(axes.get_xticklabels(), names, strict=True):
            label.set_rotation(90 if len(name) * letter > cell else 0)
        axes.set_xlabel("framed: the interval leaves out 0", fontsize=7, color=MUTED)
    return axes


def _sizes(predictors: list[str], names: list[str], width: float | None) -> tuple[float, float]:
    """Inches of a letter and of a cell."""
    if width is None:
        return _INCHES_PER_LETTER, _CELL
    letter = 0.7 * _INCHES_PER_LETTER
    room = width - 0.2 - letter * max(map(len, predictors))
    return letter, max(0.45 * _CELL, min(_CELL, room / len(names)))


def _new(predictors: list[str], names: list[str], letter: float, cell: float) -> Axes:
    top = max(0.25, letter * max(map(len, names)))
    label = letter * max(map(len, predictors))
    size = label + cell * len(names) + 0.2, _ROW * len(predictors) + top + 0.45
    return Figure(figsize=size, layout="constrained").subplots()


def _matrix(
    table: pd.DataFrame, column: str, predictors: list[str], names: list[str]
) -> NDArray[np.float64]:
    found = np.full((len(predictors), len(names)), np.nan)
    rows = zip(table["predictor"], table["axis"], numbers(table, column), strict=True)
    for predictor, axis, number in rows:
        found[predictors.index(str(predictor)), names.index(str(axis))] = number
    return found


def _lines(axes: Axes, predictors: dict[str, pd.DataFrame], num_axes: int) -> None:
    """Between predictors of different kinds, and before the summaries."""
    kinds = [str(rows["kind"].iloc[0]) for rows in predictors.values()]
    for row in range(1, len(kinds)):
        if kinds[row] != kinds[row - 1]:
            axes.axhline(row - 0.5, color=MUTED, linewidth=0.8)
    axes.axvline(num_axes - 0.5, color="white", linewidth=4)
