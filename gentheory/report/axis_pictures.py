"""The figures of what ranks the gap along every axis, in every environment, and against P/n."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from gentheory.plots.granulated_matrix import granulated_matrix
from gentheory.plots.parameter_ratio import parameter_ratio
from gentheory.plots.sign_errors import sign_errors
from gentheory.report.analysis import Analysis
from gentheory.report.axes import INFORMATION, MEAN
from gentheory.report.design import TARGETS
from gentheory.report.pictures import Picture, picture_of
from gentheory.report.ranking import GAP_BASELINES

_NARROW = {"width": 3.9}
_MOST_PANELS = 9


def axis_pictures(analysis: Analysis) -> list[Picture]:
    """Those for which there are numbers: ψ for each gap, sign errors of the one with weights."""
    found = [_matrix(analysis, target) for target in reversed(TARGETS)]
    return [picture for picture in (*found, _errors(analysis), _ratio(analysis)) if picture]


def _matrix(analysis: Analysis, target: str) -> Picture | None:
    table = analysis.granulated.loc[analysis.granulated["target"] == target]
    table = table.loc[_known(table, "psi").groupby(table["predictor"]).transform("any")]
    if table.empty:
        return None
    words = TARGETS[target]
    return picture_of(
        _listed(granulated_matrix, table.assign(axis=table["axis"].str.replace("_", " "))),
        f"granulated_{target}",
        f"Along each hyper-parameter: {words}",
        f"Kendall's τ with the {words} where one hyper-parameter alone varies; {MEAN} is their "
        f"mean, {INFORMATION} the information that is left when up to two are known. From −1, "
        "orange, to 1, blue. On top the baselines.",
        f"A matrix of {table['predictor'].nunique()} predictors by {table['axis'].nunique()} "
        "columns; the table has the same numbers with their intervals.",
        narrow=_NARROW,
    )


def _errors(analysis: Analysis) -> Picture | None:
    errors = analysis.environments.errors
    counts = {name: _known(errors.loc[errors["target"] == name], "sign_error") for name in TARGETS}
    target = next((name for name in reversed(TARGETS) if counts[name].any()), None)
    if target is None:
        return None
    table = errors.loc[errors["target"] == target]
    return picture_of(
        _listed(sign_errors, table),
        "sign_errors",
        f"Sign errors in every environment: {TARGETS[target]}",
        "A strip a predictor: how often its sign error in a pair of configurations that differ "
        "in one hyper-parameter is so large. 0: the right order; 1: the reverse; a mark at 0.5 "
        "is chance or a tie.",
        f"Histograms of sign errors of {table['predictor'].nunique()} predictors; the table has "
        "their means, quantiles and worst cases.",
        narrow=_NARROW,
    )


def _ratio(analysis: Analysis) -> Picture | None:
    """At most `_MOST_PANELS` predictors: the baselines, and whose tau goes with P/n the most."""
    trends = analysis.trends
    if trends.empty:
        return None
    trivial = trends["predictor"].isin(GAP_BASELINES)
    strength = np.where(trivial, np.inf, np.abs(trends["trend"].fillna(0)))
    names = list(trends["predictor"].iloc[np.argsort(-strength, kind="stable")[:_MOST_PANELS]])
    table = analysis.ratios.loc[analysis.ratios["predictor"].isin(names)]
    chosen = " Those shown go with it the most." if len(trends) > len(names) else ""
    return picture_of(
        partial(parameter_ratio, table),
        "parameter_ratio",
        "Rank correlation with the gap against parameters per example",
        "One point a setting: Kendall's τ with the gap within it, with its 95 % interval, against "
        f"P/n.{chosen}",
        f"Scatter plots of Kendall's tau with the gap against parameters per training example for "
        f"{len(names)} predictors.",
    )


def _listed(draw: Any, table: pd.DataFrame) -> Any:
    """A figure of one panel as one of a list of panels."""

    def panels(**options: Any) -> list[Any]:
        return [draw(table, **options)]

    return panels


def _known(table: pd.DataFrame, column: str) -> pd.Series:
    return pd.Series(np.isfinite(np.asarray(table[column], dtype=float)), index=table.index)
