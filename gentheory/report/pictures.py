"""The figures of a report, each drawn twice: for a wide window and for a narrow one."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gentheory.plots.accuracy_shift import accuracy_shift
from gentheory.plots.along_training import MAX_PANELS, along_training
from gentheory.plots.correlation_bars import correlation_bars
from gentheory.plots.export import render
from gentheory.plots.gap import gap
from gentheory.plots.heat_map import heat_map
from gentheory.plots.regime import regime
from gentheory.plots.training_curves import training_curves
from gentheory.report.analysis import Analysis
from gentheory.report.checkpoints import Unit
from gentheory.report.population import MANY_SETTINGS
from gentheory.report.ranking import MINUS_TRAINING_LOSS, TRAINING_LOSS, criterion
from gentheory.study.tables import Tables

NARROW: Mapping[str, Any] = {"columns": 2, "width": 3.9}
"""What makes panels fit into the window of a telephone."""
_PIXELS_PER_INCH = 96
_CROWD = 24
"""Settings beyond which lines through all of them hide each other; the heat maps show them."""


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
    development: bool = False
    """Whether it shows the settings that the findings leave aside."""
    along: bool = False
    """Whether it shows the checkpoints along training."""
    shift: bool = False
    """Whether it belongs to the section on the environment kept out of training."""
    surface: str = ""
    """The element of the same as a surface that one can turn, where there is one."""


@dataclass(frozen=True)
class Content:
    """All that a page and the files beside it hold."""

    page: str
    findings: list[str]
    pictures: list[Picture]
    results: dict[str, Any]
    """Plain values, for JSON."""


def pictures(tables: Tables, analysis: Analysis) -> list[Picture]:
    """Tau against regime, heat maps of many settings, gap against TIC, correlations, curves.

    Those for which there are numbers. The heat maps of the development settings and then the
    checkpoints along training come last.
    """
    found = [_regime(analysis), *_heat_maps(analysis, development=False), _gap(analysis)]
    found += [_correlations(analysis), curves(tables), *_heat_maps(analysis, development=True)]
    found += _along(analysis)
    found.append(_shift(analysis))
    return [picture for picture in found if picture is not None]


def _regime(analysis: Analysis) -> Picture | None:
    """None where the study names no measure that tells regimes apart, or for one or a crowd."""
    medians, tested = analysis.regimes, analysis.population.tested
    known = np.isfinite(np.asarray(medians["median"], dtype=float))
    medians = medians.loc[medians["setting"].isin(tested) & known]
    if not 2 <= medians["setting"].nunique() <= _CROWD:
        return None
    targets = ((analysis.correlations, "the gap"), (analysis.criteria, "the test loss"))
    parts = [
        table.merge(rows, on="setting").assign(
            panel=f"{measure}: τ with {target}", regime_name=measure, regime=lambda t: t["median"]
        )
        for measure, rows in medians.groupby("measure", sort=False)
        for table, target in targets
    ]
    joined = pd.concat(parts, ignore_index=True)
    joined = joined.loc[joined["kind"] != "measure"]
    # One look for a measure and for its sum with the training loss.
    same = {MINUS_TRAINING_LOSS: TRAINING_LOSS}
    names = [same.get(n, n).replace(criterion(""), "") for n in map(str, joined["predictor"])]
    return picture_of(
        partial(regime, joined.assign(predictor=names)),
        "regime",
        "Rank correlations against the regime",
        "One point a setting; lines join the settings in the order of the regime, bars are 95 % "
        "intervals. The test loss is ranked by the training loss plus each predicted gap, the gap "
        "by minus the training loss.",
        f"Kendall's tau of predictors with the gap and with the test loss in {len(tested)} "
        "settings, against what tells their regimes apart; the tables have the same numbers.",
        narrow={"columns": 1, "width": 3.9},
    )


def _heat_maps(analysis: Analysis, *, development: bool) -> list[Picture | None]:
    kinds = (
        (analysis.criteria, "kendall", "test_loss", "Kendall's τ with the test loss"),
        (
            *(analysis.correlations, "partial_kendall", "partial"),
            "Partial τ with the gap given the training loss",
        ),
    )
    return [_heat_map(analysis, *kind, development=development) for kind in kinds]


def _heat_map(
    analysis: Analysis,
    table: pd.DataFrame,
    column: str,
    name: str,
    title: str,
    *,
    development: bool,
) -> Picture | None:
    """Settings by predictors; none where the settings are few enough for bars."""
    population = analysis.population
    chosen = [s for s in population.settings if (s in population.development) is development]
    kept = table.loc[table["setting"].isin(chosen)]
    known = np.isfinite(np.asarray(kept[column], dtype=float))
    if len(population.settings) <= MANY_SETTINGS or not known.any():
        return None
    which = "settings on which the criterion was chosen" if development else "settings"
    plus = " “+ X” is the training loss plus X." if table is analysis.criteria else ""
    names = [str(name).replace(criterion(""), "+ ") for name in kept["predictor"]]
    return picture_of(
        partial(heat_map, kept.assign(predictor=names), column),
        f"heat_{name}{'_development' if development else ''}",
        title,
        f"One row a setting, with their mean below; from −1, orange, to 1, blue. {len(chosen)} "
        f"{which}.{plus}",
        f"{title} of {kept['predictor'].nunique()} predictors in {len(chosen)} {which}, as a heat "
        "map; the tables have the same numbers with their intervals.",
        narrow={"columns": 7, "width": 3.9},
        development=development,
    )


def _gap(analysis: Analysis) -> Picture | None:
    measure, ranked = analysis.main, analysis.population.ranked
    ranked = ranked.loc[ranked["setting"].isin(analysis.population.tested)]
    if measure is None or not np.isfinite(np.asarray(ranked[measure], dtype=float)).any():
        return None
    return picture_of(
        partial(gap, _sorted(ranked, analysis.population.tested), measure),
        "gap",
        f"The measured gap against {measure}",
        "One point a model, one panel a setting; bars are one standard error, across that of "
        "the estimate and upward that of the test examples. On the dashed line the predicted "
        "gap is the measured one, test loss minus training loss.",
        f"Scatter plots of the measured generalization gap against {measure}, one for each of "
        f"{len(analysis.population.tested)} settings.",
    )


def _correlations(analysis: Analysis) -> Picture | None:
    table, population = analysis.correlations, analysis.population
    few = len(population.settings) <= MANY_SETTINGS
    shown = (population.overall, *(population.tested if few else ()))
    table = table.loc[table["setting"].isin(shown)]
    if not np.isfinite(np.asarray(table["kendall"], dtype=float)).any():
        return None
    return picture_of(
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


def curves(tables: Tables) -> Picture | None:
    """The training loss over epochs; none where it was not kept."""
    if tables.curves.empty:
        return None
    kept = tables.models[["model", "architecture", "outcome"]]
    curves = tables.curves.merge(kept, on="model")
    loss = np.asarray(curves["train_loss"], dtype=float)
    if not (np.isfinite(loss) & (loss > 0)).any():
        return None
    return picture_of(
        partial(training_curves, curves),
        "training_curves",
        "Training loss over epochs",
        "One line a model, one panel an architecture; models that diverged are grey and dotted.",
        f"Training loss of {curves['model'].nunique()} models over epochs, logarithmic.",
    )


def _shift(analysis: Analysis) -> Picture | None:
    found = analysis.shift
    if found is None:
        return None
    drawn = picture_of(
        partial(accuracy_shift, found.models, found.curve),
        "accuracy_shift",
        "Shifted against in-distribution accuracy",
        "One small point a model, one panel a data set; lines join the means of the models of an "
        "optimizer in bins of two points of in-distribution accuracy, bars are their 95 % "
        "intervals. On the dashed line both accuracies are the same.",
        f"Accuracy on the environment kept out of training against that on the training "
        f"environments, of {len(found.models)} models; the tables have the means.",
        narrow={"columns": 1, "width": 3.9},
    )
    return replace(drawn, shift=True)


def _along(analysis: Analysis) -> list[Picture | None]:
    """The gap and the predicted gaps at each checkpoint, and what ranks the gap there."""
    found = analysis.along
    if found is None:
        return []
    tested = analysis.population.tested
    some = f" Of {len(tested)} settings the first {MAX_PANELS}." if len(tested) > MAX_PANELS else ""
    means = found.means.rename(columns=lambda name: name.replace("mean", "value"))
    taus = found.across.rename(columns=lambda name: name.replace("kendall", "value"))
    return [
        _trajectories(
            means,
            found.unit,
            tested,
            "gap (units of the loss)",
            None,
            "along_training",
            "Measured and predicted gap along training",
            "Means over the models that had not ended before, with 95 % intervals." + some,
        ),
        _trajectories(
            taus.assign(series=taus["predictor"]),
            found.unit,
            tested,
            "Kendall's τ with the gap",
            (-1.05, 1.05),
            "along_training_tau",
            "What ranks the gap at each checkpoint",
            "Kendall's τ across the models of a setting, with 95 % intervals." + some,
        ),
    ]


def _trajectories(
    table: pd.DataFrame,
    by: Unit,
    settings: tuple[str, ...],
    quantity: str,
    limits: tuple[float, float] | None,
    name: str,
    title: str,
    caption: str,
) -> Picture | None:
    table = table.loc[table["setting"].isin(settings[:MAX_PANELS])]
    if not np.isfinite(np.asarray(table["value"], dtype=float)).any():
        return None
    table = table.rename(columns={"setting": "panel", "value.low": "low", "value.high": "high"})
    return picture_of(
        partial(along_training, table, by=by, quantity=quantity, limits=limits),
        name,
        title,
        caption,
        f"{title}, for {table['panel'].nunique()} settings over {table[by].nunique()} "
        "checkpoints; all numbers are in results.json.",
        along=True,
    )


def picture_of(
    draw: Callable[..., list[Axes]],
    name: str,
    title: str,
    caption: str,
    alternative: str,
    *,
    narrow: Mapping[str, Any] = NARROW,
    development: bool = False,
    along: bool = False,
) -> Picture:
    """Draw it with the function's own sizes, and with the arguments `narrow` for narrow windows."""
    wide, small = figure_of(draw()), figure_of(draw(**narrow))
    svg = render(wide, "svg")
    return Picture(
        name,
        title,
        caption,
        alternative,
        _inline(wide, svg),
        _inline(small, render(small, "svg")),
        svg,
        render(wide, "png"),
        development,
        along,
    )


def figure_of(grid: list[Axes]) -> Figure:
    """The figure that the axes are in."""
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
