"""The ratios as bars beside their targets, drawn for a wide and for a narrow window."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import seaborn
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.rows import Row
from gentheory.plots.export import render
from gentheory.plots.style import INK, MUTED, styled

_PIXELS_PER_INCH = 96
_SHORT = {
    " of the Hessian": "",
    " to 1 % standard error": "",
    "-vector product": " · v",
    "per-example ": "",
    "top 10 eigenpairs": "10 eigenpairs",
    "diagonal of the GGN": "GGN diagonal",
    "empirical ": "",
}


@dataclass(frozen=True)
class Image:
    """Inlined in a page, with its size in CSS pixels."""

    source: str
    width: int
    height: int


def pictures(rows: Sequence[Row]) -> tuple[Image, Image] | None:
    """The bars for a wide and for a narrow window; None where no row has a ratio."""
    drawn = [row for row in rows if row.standing is not None and row.standing.ratio is not None]
    if not drawn:
        return None
    return _image(_bars(drawn, 8.6)), _image(_bars(drawn, 3.7))


@styled()
def _bars(rows: Sequence[Row], width: float) -> Figure:
    figure = Figure(figsize=(width, 0.34 * len(rows) + 0.9), layout="constrained")
    axes = figure.subplots()
    ratios = [row.standing.ratio for row in rows]
    places = np.arange(len(rows))
    middle, low, high = (
        np.array([getattr(ratio, name) for ratio in ratios]) for name in ("median", "low", "high")
    )
    colours = [seaborn.color_palette("colorblind")[0 if row.reached else 1] for row in rows]
    axes.barh(places, middle - 1, left=1, height=0.62, color=colours)
    axes.hlines(places, low, high, color=INK, linewidth=1.0)
    targets = [row.target for row in rows]
    axes.vlines(targets, places - 0.42, places + 0.42, color=INK, linewidth=1.8)
    axes.axvline(1, color=MUTED, linewidth=0.8)
    axes.set_xscale("log")
    bounds = min(0.5, *(0.85 * low)), max(4.0, *(1.15 * high))
    axes.set_xlim(*bounds)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(places, [_label(row, narrow=width < 5) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("best peer's time / ours")
    return figure


def _label(row: Row, *, narrow: bool) -> str:
    work = row.work.split(",")[0]
    for long, short in _SHORT.items():
        work = work.replace(long, short)
    if "10 vectors" in row.work:
        work += " ×10"
    return f"{work}, {row.net}" if narrow else f"{work}, {row.net} (against {row.best})"


def _image(figure: Figure) -> Image:
    width, height = (round(inches * _PIXELS_PER_INCH) for inches in figure.get_size_inches())
    encoded = base64.b64encode(render(figure, "svg")).decode()
    return Image(f"data:image/svg+xml;base64,{encoded}", width, height)
