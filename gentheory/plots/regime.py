"""How well predictors rank, against a number that tells the settings' regimes apart."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import MUTED, Look, entitle, log_axis, looks, panels, styled


def regime(
    table: pd.DataFrame,
    *,
    columns: int = 2,
    width: float = 12.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """One point a setting and predictor: its tau up, the setting's regime across, a panel a target.

    `table` has the columns panel, predictor, regime (a number, the same for all rows of a
    setting), regime_name, kendall, kendall.low and kendall.high; points of one predictor are
    joined in the order of the regime, and bars are its intervals. Logarithmic across where all
    regimes are positive. Raises `InputError` for a missing column and for a table without rows.
    """
    require(table, "panel", "predictor", "regime", "regime_name", "kendall")
    groups = group(table, "panel", what="a setting with a regime")
    look = looks(map(str, table["predictor"]))
    with styled():
        grid = panels(figure, len(groups), columns=columns, width=width, height=3.4, share=False)
        entitle(grid, groups)
        for axes, frame in zip(grid, groups.values(), strict=True):
            for place, (name, rows) in enumerate(group(frame, "predictor", what="").items()):
                _line(axes, rows, look[name], name, place)
            _scale(axes, frame)
        drawn = grid[0].get_figure(root=True)
        assert drawn is not None
        lines = dict(pair for axes in grid for pair in _named(axes))
        count = 4 if drawn.get_figwidth() > 6 else 1
        drawn.legend(lines.values(), lines.keys(), loc="outside upper left", ncols=count)
    return grid


def _named(axes: Axes) -> Iterator[tuple[str, Artist]]:
    handles, labels = axes.get_legend_handles_labels()
    return zip(labels, handles, strict=True)


def _line(axes: Axes, rows: pd.DataFrame, look: Look, name: str, place: int) -> None:
    order = np.argsort(numbers(rows, "regime"), kind="stable")
    names = ("regime", "kendall", "kendall.low", "kendall.high")
    x, y, low, high = (numbers(rows, column)[order] for column in names)
    known = np.isfinite(x) & np.isfinite(y)
    colour = look.colour
    axes.vlines(x[known], low[known], high[known], color=colour, linewidth=0.8, alpha=0.5)
    axes.plot(
        x[known],
        y[known],
        color=colour,
        marker=look.marker,
        markersize=4.5,
        linestyle=look.line,
        linewidth=1.2,
        label=name,
        zorder=3 + place,
    )


def _scale(axes: Axes, frame: pd.DataFrame) -> None:
    x = numbers(frame, "regime")
    x = x[np.isfinite(x)]
    axes.axhline(0, color=MUTED, linewidth=0.8, zorder=1)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlabel(f"{frame['regime_name'].iloc[0]}, median of the setting")
    axes.set_ylabel("Kendall's τ")
    if len(x) and x.min() > 0 and x.max() > x.min():
        axes.set_xscale("log")
        log_axis(axes.xaxis, x.min(), x.max())
