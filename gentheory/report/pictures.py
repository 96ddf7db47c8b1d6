"""The figures of a report, each drawn twice: for a wide window and for a narrow one."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gentheory.plots.correlation_bars import correlation_bars
from gentheory.plots.export import render
from gentheory.plots.gap import gap
from gentheory.plots.training_curves import training_curves
from gentheory.report.analysis import Analysis
from gentheory.study.tables import Tables

_NARROW = {"columns": 2, "width": 3.9}
_PIXELS_PER_INCH = 96


@dataclass(frozen=True)
class Image:
    """A figure inlined in a page, with its size in CSS pixels."""

    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """A figure with its words, inlined and as the content of files."""

    name: str
    title: str
    caption: str
    alternative: str
    wide: Image
    narrow: Image
    svg: bytes
    png: bytes


def pictures(tables: Tables, analysis: Analysis) -> list[Picture]:
    """Gap against TIC, correlations, training curves: those for which there are numbers."""
    found = [_gap(analysis), _correlations(analysis), _curves(tables)]
    return [picture for picture in found if picture is not None]


def _gap(analysis: Analysis) -> Picture | None:
    measure, ranked = analysis.main, analysis.population.ranked
    if measure is None or not np.isfinite(np.asarray(ranked[measure], dtype=float)).any():
        return None
    return _picture(
        partial(gap, _sorted(ranked, analysis.population.settings), measure),
        "gap",
        f"The measured gap against {measure}",
        "One point a model, one panel a setting; bars are one standard error, across that of "
        "the estimate and upward that of the test examples. On the dashed line the predicted "
        "gap is the measured one, test loss minus training loss.",
        f"Scatter plots of the measured generalization gap against {measure}, one for each of "
        f"{len(analysis.population.settings)} settings.",
    )


def _correlations(analysis: Analysis) -> Picture | None:
    table = analysis.correlations
    if not np.isfinite(np.asarray(table["kendall"], dtype=float)).any():
        return None
    return _picture(
        partial(correlation_bars, table),
        "correlations",
        "Rank correlation with the gap",
        "Bars: Kendall's τ of each predictor with the measured gap; diamonds: partial τ given "
        "the training loss; lines: 95 % bootstrap intervals. Above the dotted line, hatched, the "
        "trivial baselines.",
        "Bar charts of Kendall's tau with the gap for "
        f"{table['predictor'].nunique()} predictors; the table of Kendall's tau below has the "
        "same numbers.",
    )


def _curves(tables: Tables) -> Picture | None:
    if tables.curves.empty:
        return None
    kept = tables.models[["model", "architecture", "outcome"]]
    curves = tables.curves.merge(kept, on="model")
    loss = np.asarray(curves["train_loss"], dtype=float)
    if not (np.isfinite(loss) & (loss > 0)).any():
        return None
    return _picture(
        partial(training_curves, curves),
        "training_curves",
        "Training loss over epochs",
        "One line a model, one panel an architecture; models that diverged are grey and dotted.",
        f"Training loss of {curves['model'].nunique()} models over epochs, logarithmic.",
    )


def _picture(
    draw: Callable[..., list[Axes]], name: str, title: str, caption: str, alternative: str
) -> Picture:
    wide, narrow = _figure(draw()), _figure(draw(**_NARROW))
    svg = render(wide, "svg")
    return Picture(
        name,
        title,
        caption,
        alternative,
        _inline(wide, svg),
        _inline(narrow, render(narrow, "svg")),
        svg,
        render(wide, "png"),
    )


def _figure(grid: list[Axes]) -> Figure:
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    return figure


def _inline(figure: Figure, svg: bytes) -> Image:
    width, height = (round(inches * _PIXELS_PER_INCH) for inches in figure.get_size_inches())
    return Image(f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}", width, height)


def _sorted(frame: pd.DataFrame, settings: tuple[str, ...]) -> pd.DataFrame:
    """Rows in the order of the settings, so that the panels are."""
    place = {setting: index for index, setting in enumerate(settings)}
    return frame.iloc[np.argsort([place[label] for label in frame["setting"]], kind="stable")]
