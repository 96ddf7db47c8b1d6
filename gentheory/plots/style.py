"""What all figures share: colours and markers, the grid of panels, logarithmic axes."""

import textwrap
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, LogLocator, NullFormatter

INK, MUTED, FAINT = "0.15", "0.4", "0.88"
_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "hatch.linewidth": 0.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "gentheory",
}
_INCHES_PER_LETTER = 0.078
# The pink and the yellow of the palette are too pale for thin lines on white.
_COLOURS = [seaborn.color_palette("colorblind")[i] for i in (0, 1, 2, 3, 4, 5, 7, 9)]
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Look:
    """How one category is drawn, told apart by colour and, in grey, by marker and line."""

    colour: tuple[float, float, float]
    marker: str
    line: str | tuple[int, tuple[float, ...]]


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each label, in the order of first appearance; 56 before one comes again."""
    return {
        label: Look(
            _COLOURS[place % len(_COLOURS)],
            _MARKERS[place % len(_MARKERS)],
            _LINES[place % len(_LINES)],
        )
        for place, label in enumerate(dict.fromkeys(labels))
    }


def styled() -> AbstractContextManager[None]:
    """The settings that figures are drawn and saved with, for a `with` block or as a decorator."""
    return matplotlib.rc_context(_RC)


def panels(
    figure: Figure | None,
    count: int,
    *,
    columns: int,
    width: float,
    height: float,
    share: bool = True,
) -> list[Axes]:
    """`count` panels in rows of at most `columns`; a new figure where none is given.

    `width` of the whole figure and `height` of one row are in inches. Axes are shared among
    panels; the lowest panel of each column has tick labels even where it is not in the last row.
    """
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    if figure is None:
        size = (min(width, 3.4 * columns + 0.6), rows * height + 0.5)
        figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
    flat = [axes for row in grid for axes in row]
    for empty in flat[count:]:
        empty.remove()
    for axes in flat[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return flat[:count]


def entitle(grid: list[Axes], titles: Iterable[str], *, margin: float = 0.5) -> None:
    """A title for each panel, broken after commas into as many lines as it needs.

    `margin` are the inches of the figure's width that do not belong to panels.
    """
    for axes, title in zip(grid, titles, strict=True):
        spec, figure = axes.get_subplotspec(), axes.get_figure(root=True)
        assert spec is not None
        assert figure is not None
        inches = (figure.get_figwidth() - margin) / spec.get_gridspec().ncols
        lines = textwrap.wrap(
            unbroken(title),
            max(8, int(inches / _INCHES_PER_LETTER)),
            break_long_words=False,
            break_on_hyphens=False,
        )
        axes.set_title("\n".join(lines).replace("\N{NO-BREAK SPACE}", " "))


def unbroken(label: str) -> str:
    """A setting's name with spaces that do not break, but for those after a comma."""
    return ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in label.split(", "))


def log_axis(axis: Axis, low: float, high: float) -> None:
    """Few and readable ticks for a logarithmic axis from `low` to `high`."""
    decades = float(np.log10(high / low))
    axis.set_minor_formatter(NullFormatter())
    if decades < 1.8:
        axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if decades > 0.9 else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_major_formatter(LogFormatterMathtext())


def remark(axes: Axes, text: str) -> None:
    """A short remark in the lower right corner of a panel."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    written = axes.text(0.98, 0.02, text, color=MUTED, fontsize=7, bbox=box)
    written.set(transform=axes.transAxes, ha="right", va="bottom")
