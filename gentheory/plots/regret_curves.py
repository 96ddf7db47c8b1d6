"""Regret against budget, a line with its band a signal and a panel a pruner or a setting."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import Look, entitle, log_axis, looks, panels, styled


def regret_curves(
    table: pd.DataFrame,
    *,
    quantity: str,
    columns: int = 4,
    width: float = 12.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """Mean regret (logarithmic) at each budget (per cent of the full one, logarithmic).

    `table` has one row a panel, series and budget, a fraction, and the columns panel, series,
    budget, regret, low and high; the band reaches from low to high. What is not positive breaks
    the line, and a band that reaches 0 goes to the axis. `quantity` names the regret with its
    unit; `width` is in inches. Raises `InputError` for a missing column and for no rows.
    """
    require(table, "panel", "series", "budget", "regret", "low", "high")
    groups = group(table, "panel", what="a budget")
    look = looks(map(str, table["series"]))
    with styled():
        grid = panels(figure, len(groups), columns=columns, width=width, height=2.5, share=False)
        entitle(grid, groups)
        for axes, frame in zip(grid, groups.values(), strict=True):
            for name, rows in group(frame, "series", what="").items():
                _line(axes, rows, name, look[name])
            _scale(axes, frame)
        _label(grid, quantity)
    return grid


def _line(axes: Axes, rows: pd.DataFrame, name: str, look: Look) -> None:
    budget, regret, low, high = (
        numbers(rows, column) for column in ("budget", "regret", "low", "high")
    )
    shown = np.where(regret > 0, regret, np.nan)
    least = np.where(low > 0, low, np.finfo(float).tiny)
    most = np.where(regret > 0, high, np.nan)
    axes.fill_between(100 * budget, least, most, color=look.colour, alpha=0.15, linewidth=0)
    axes.plot(
        100 * budget,
        shown,
        color=look.colour,
        linestyle=look.line,
        linewidth=1.3,
        marker=look.marker,
        markersize=3.5,
        markevery=max(1, len(rows) // 6),
        label=name,
        zorder=3,
    )


def _scale(axes: Axes, frame: pd.DataFrame) -> None:
    regret, budget = numbers(frame, "regret"), 100 * numbers(frame, "budget")
    known = regret[np.isfinite(regret) & (regret > 0)]
    axes.set_xscale("log")
    axes.set_xlim(float(budget.min()), float(budget.max()))
    log_axis(axes.xaxis, float(budget.min()), float(budget.max()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if len(known):
        # One signal that knows all, with a regret of nearly 0, would leave no room to the others.
        low, high = max(_second_least(frame) / 1.3, known.max() / 300), known.max() * 1.3
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        log_axis(axes.yaxis, low, high)


def _second_least(frame: pd.DataFrame) -> float:
    """The regret above 0 that all series but one stay above, or come down to."""
    columns = [numbers(rows, "regret") for rows in group(frame, "series", what="").values()]
    least = sorted(float(regret[regret > 0].min(initial=np.inf)) for regret in columns)
    known = [each for each in least if each < np.inf]
    return known[min(1, len(known) - 1)]


def _label(grid: list[Axes], quantity: str) -> None:
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    figure.supxlabel("budget spent (% of training every trial to the end)", fontsize=9)
    wide = figure.get_figwidth() > 6
    figure.supylabel(quantity if wide else quantity.replace(" (", "\n("), fontsize=9)
    pairs = [pair for axes in grid for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    lines = {label: handle for handle, label in pairs}
    count = max(1, round(figure.get_figwidth() / 4))
    figure.legend(lines.values(), lines.keys(), loc="outside upper left", ncols=count)
