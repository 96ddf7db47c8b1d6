"""A correlation for each setting and predictor, as colours with the numbers in them."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gentheory.plots.cells import paint
from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import styled

MEAN = "mean over settings"

_ROW = 0.23
_INCHES_PER_LETTER = 0.072


def heat_map(
    table: pd.DataFrame,
    value: str,
    *,
    columns: int = 24,
    width: float = 12.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """Settings down, with their mean below, and predictors across, in blocks of `columns`.

    `table` has one row a setting and predictor and the columns setting, predictor, kind and
    `value`, a correlation; a predictor without any value is left out, and a lighter line stands
    between predictors of different kinds. `width` is in inches. Raises `InputError` for a missing
    column and for a table without rows.
    """
    require(table, "setting", "predictor", "kind", value)
    settings = list(group(table, "setting", what="a setting"))
    known = table.loc[np.isfinite(numbers(table, value))]
    numbered = set(known["predictor"])
    pairs = zip(table["predictor"], table["kind"], strict=True)
    predictors = list(dict.fromkeys((str(n), str(kind)) for n, kind in pairs if n in numbered))
    count = max(1, -(-len(predictors) // columns))
    blocks = _split(predictors, count)
    label = _INCHES_PER_LETTER * max(len(name) for block in blocks for name, _ in block)
    with styled():
        if figure is None:
            height = count * (_ROW * (len(settings) + 1.3) + min(label, 2.6) + 0.1)
            figure = Figure(figsize=(width, height), layout="constrained")
        grid = [axes for row in figure.subplots(count, 1, squeeze=False) for axes in row]
        for axes, block in zip(grid, blocks, strict=True):
            _draw(axes, _matrix(known, value, settings, block), settings, block)
    return grid


def _split(predictors: list[tuple[str, str]], count: int) -> list[list[tuple[str, str]]]:
    """As equal in length as can be."""
    bounds = [round(place * len(predictors) / count) for place in range(count + 1)]
    return [predictors[start:stop] for start, stop in pairwise(bounds)]


def _matrix(
    table: pd.DataFrame, value: str, settings: list[str], block: list[tuple[str, str]]
) -> NDArray[np.float64]:
    """The values [settings + 1, predictors], the last row their mean over the settings."""
    names = [name for name, _ in block]
    found = np.full((len(settings), len(names)), np.nan)
    for setting, predictor, number in zip(
        table["setting"], table["predictor"], numbers(table, value), strict=True
    ):
        if predictor in names:
            found[settings.index(setting), names.index(predictor)] = number
    mean = np.ma.masked_invalid(found).mean(axis=0, keepdims=True).filled(np.nan)
    return np.concatenate([found, mean])


def _draw(
    axes: Axes,
    values: NDArray[np.float64],
    settings: list[str],
    block: list[tuple[str, str]],
) -> None:
    rows, columns = values.shape
    bold = np.zeros(values.shape, dtype=bool)
    bold[-1] = True
    paint(axes, values, bold=bold)
    axes.axhline(rows - 1.5, color="white", linewidth=3)
    for place, (one, other) in enumerate(pairwise(kind for _, kind in block)):
        if one != other:
            axes.axvline(place + 0.5, color="white", linewidth=3)
    axes.set_yticks(range(rows), labels=[*settings, MEAN], fontsize=7)
    axes.set_xticks(range(columns), labels=[name for name, _ in block], fontsize=7, rotation=90)
