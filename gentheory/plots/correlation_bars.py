"""Kendall's tau of measures and trivial baselines with the gap, a panel for each group."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import INK, MUTED, entitle, looks, panels, styled

_KINDS = ("predicted gap", "measure")
_DIAMOND: dict[str, Any] = {
    "linestyle": "none",
    "marker": "D",
    "markersize": 3.6,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "markeredgewidth": 0.8,
}


def correlation_bars(
    table: pd.DataFrame,
    *,
    columns: int = 4,
    width: float = 12.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """A bar for tau and a hollow diamond for the partial tau, each with its interval.

    `table` has one row a setting and predictor and the columns setting, predictor, kind
    ("baseline", "predicted gap" or "measure"), and kendall and partial_kendall, each with `.low`
    and `.high`. Baselines come first, hatched, above a line. What is nan is left blank. `width`
    is in inches. Raises `InputError` for a missing column and for a table without rows.
    """
    require(
        table, "setting", "predictor", "kind", *_columns("kendall"), *_columns("partial_kendall")
    )
    groups = group(table, "setting", what="a setting")
    predictors = list(dict.fromkeys(str(name) for name in table["predictor"]))
    height = 0.28 * len(predictors) + 0.45
    with styled():
        grid = panels(figure, len(groups), columns=columns, width=width, height=height)
        entitle(grid, groups, margin=1.3)
        for axes, frame in zip(grid, groups.values(), strict=True):
            _bars(axes, frame, predictors)
        _frame(grid, table, predictors)
        _legend(grid)
    return grid


def _columns(name: str) -> tuple[str, str, str]:
    return name, f"{name}.low", f"{name}.high"


def _bars(axes: Axes, frame: pd.DataFrame, predictors: list[str]) -> None:
    places = np.array([predictors.index(str(name)) for name in frame["predictor"]], dtype=float)
    kinds = [str(kind) for kind in frame["kind"]]
    tau, low, high = (numbers(frame, name) for name in _columns("kendall"))
    known = np.isfinite(tau)
    for place, value, kind in zip(places[known], tau[known], np.array(kinds)[known], strict=True):
        axes.barh(place - 0.14, value, height=0.46, zorder=2, **_fill(kind))
    axes.hlines(places - 0.14, low, high, color=INK, linewidth=1.3, zorder=3)
    partial, low, high = (numbers(frame, name) for name in _columns("partial_kendall"))
    axes.hlines(places + 0.28, low, high, color=INK, linewidth=0.8, zorder=4)
    axes.plot(partial, places + 0.28, zorder=5, **_DIAMOND)


def _fill(kind: str) -> dict[str, Any]:
    """Baselines are hatched, other measures outlined, for those who see no colour."""
    if kind not in _KINDS:
        return {"facecolor": "white", "edgecolor": MUTED, "hatch": "/////"}
    # Light enough for the interval to be seen on it.
    colour = [0.35 + 0.65 * part for part in looks(_KINDS)[kind].colour]
    return {"facecolor": colour, "edgecolor": INK if kind == "measure" else "none"}


def _frame(grid: list[Axes], table: pd.DataFrame, predictors: list[str]) -> None:
    """Axes from -1 to 1, no wider than needed, names in the first column only."""
    bounds = [numbers(table, name) for name in (*_columns("kendall"), *_columns("partial_kendall"))]
    known = np.concatenate(bounds)
    known = known[np.isfinite(known)]
    low = max(-1.0, min(known.min(initial=0.0) * 1.08, -0.05))
    kinds = dict(zip(table["predictor"], table["kind"], strict=True))
    baselines = sum(kinds[name] == "baseline" for name in predictors)
    for axes in grid:
        axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
        axes.axhline(baselines - 0.5, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_yticks(range(len(predictors)), labels=predictors)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(predictors) - 0.45, -0.6)
        axes.set_xlim(low, min(1.0, max(known.max(initial=0.0) * 1.08, 0.05)))


def _legend(grid: list[Axes]) -> None:
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    handles = [Patch(**_fill(kind)) for kind in ("baseline", *_KINDS)]
    handles = [*handles, Line2D([], [], **_DIAMOND)]
    labels = [
        "trivial baseline: τ",
        "predicted gap: τ",
        "other measure: τ",
        "partial τ given the training loss",
    ]
    columns = 4 if figure.get_figwidth() > 6 else 2
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)
    figure.supxlabel("rank correlation with the gap (no unit), with 95 % intervals", fontsize=9)
