"""The tables of what ranks the gap along every axis, in every environment, and over all axes."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from gentheory.report.analysis import Analysis
from gentheory.report.axes import INFORMATION, MEAN
from gentheory.report.design import TARGETS
from gentheory.report.grids import Cell, Grid
from gentheory.report.numbers import bounds, probability, tau

Row = dict[str, Any]

_POOLED = {
    "kendall": "Kendall's τ",
    "p": "p after Holm",
    "lead": "lead over the best trivial baseline",
    "partial_kendall": "partial τ given the training loss",
    "spearman": "Spearman's ρ",
    "pearson": "Pearson's r",
    "reliability": "reliability",
    "true_kendall": "τ without own error",
    "true_pearson": "r without own error",
}


def axis_grids(analysis: Analysis) -> list[Grid]:
    """For the gap in loss and in error: along axes, in environments, over all axes together."""
    return [
        grid
        for target, words in TARGETS.items()
        for grid in (
            _granulated(_of(analysis.granulated, target), target, words),
            _environments(_of(analysis.environments.summary, target), target, words),
            _pooled(_of(analysis.pooled, target), target, words),
        )
        if grid.rows
    ]


def trend_grid(analysis: Analysis) -> Grid | None:
    """How taus go with parameters per example; none where too few settings differ in it."""
    if analysis.trends.empty:
        return None
    names = {"slope": "change of τ for ten times P/n", "trend": "Kendall's τ of τ with P/n"}
    rows = [
        [_head(row), Cell(str(row["settings"])), *(_number(row, name) for name in names)]
        for row in _records(analysis.trends)
    ]
    header = [Cell("predictor"), Cell("settings"), *map(Cell, names.values())]
    caption = (
        "τ is Kendall's, with the gap within a setting; P/n, its parameters per training example. "
        "Intervals are a 95 % bootstrap over settings; bold where they exclude 0."
    )
    return Grid("trend", "Rank correlation against parameters per example", caption, header, rows)


def _granulated(table: pd.DataFrame, target: str, words: str) -> Grid:
    names = list(dict.fromkeys(map(str, table["axis"])))
    rows: list[list[Cell]] = []
    for own in _by_predictor(table):
        cells = {row["axis"]: row for row in own}
        found = (_number(cells[n], "psi", paired=n != INFORMATION) for n in names)
        rows.append([_head(own[0]), *found])
    header = [Cell("predictor"), *(Cell(name.replace("_", " ")) for name in names)]
    caption = (
        f"ψ: Kendall's τ with the {words} where one hyper-parameter alone varies, in the mean "
        f"over lines of the grid; {MEAN}, the mean of the ψ; bold where the interval excludes 0. "
        f"{INFORMATION}: share of the order of the gap, from 0 to 1, that a predictor's order "
        "tells when up to two hyper-parameters are known, the least over their choices; counted, "
        "it is a little above 0 for noise too. Intervals: 95 % bootstrap over configurations with "
        "their seeds; of K, jackknife."
    )
    return Grid(f"axes-{target}", f"Along each axis: {words}", caption, header, rows)


def _environments(table: pd.DataFrame, target: str, words: str) -> Grid:
    quantiles = {"median": "median", "q90": "90 %", "worst": "worst", "least": "least"}
    rows: list[list[Cell]] = []
    for row in _records(table):
        known = not row["note"] and row["environments"] > 0
        if not known:
            rows.append([_head(row), Cell(row["note"] or "none left", muted=True)])
            rows[-1] += [Cell("–", muted=True)] * (len(quantiles) + 3)
            continue
        certain = row["mean.low"] > 0.5 or row["mean.high"] < 0.5
        shade = round(max(-1.0, min(1.0, 1 - 2 * row["mean"])), 3)
        mean = Cell(tau(row["mean"]), (bounds(row, "mean"),), shade, certain)
        found = [Cell(tau(row[name])) for name in quantiles]
        counts = [Cell(str(row["environments"])), Cell(str(row["dropped"]))]
        rows.append([_head(row), mean, Cell(probability(row["p"])), *found, *counts])
    names = ["mean", "p after Holm", *quantiles.values(), "environments", "dropped"]
    weights = (
        "Pairs of models weigh by how surely their test examples tell their gaps apart "
        "(Hoeffding); an environment with too few effective pairs is dropped."
        if target == "error_gap"
        else "A loss has no bound, so all pairs weigh the same and none is dropped as noise."
    )
    caption = (
        "An environment is two configurations that differ in one hyper-parameter. Sign error: 0 "
        "where a predictor orders them as their gaps, 0.5 at random, 1 where it reverses them; "
        "“least” near 1 too would be a predictor to be read with the other sign. Bold where the "
        f"interval of the mean excludes 0.5. {weights}"
    )
    header = [Cell("predictor"), *map(Cell, names)]
    return Grid(f"environments-{target}", f"Sign error: {words}", caption, header, rows)


def _pooled(table: pd.DataFrame, target: str, words: str) -> Grid:
    rows: list[list[Cell]] = []
    for row in _records(table):
        cells = [
            Cell(row["note"] or "–", muted=True)
            if math.isnan(row[name])
            else Cell(probability(row[name]))
            if name == "p"
            else _number(row, name)
            for name in _POOLED
        ]
        rows.append([_head(row), *cells])
    header = [Cell("predictor"), *map(Cell, _POOLED.values())]
    caption = (
        f"Correlations with the {words} of the configurations' means over their seeds; 95 % "
        "bootstrap over configurations. Leads are on the same resamples, bold where the interval "
        "excludes 0; p is of τ = 0, adjusted for the number of measures, of a baseline alone. "
        "Without own error: corrected for the standard error that each measure states, which "
        "covers its random draws and not what its formula leaves out; the correction widens the "
        "interval, takes the errors to be independent, and is wild where the reliability is low. "
        "The noise of the test examples is left in: all models share them."
    )
    return Grid(f"pooled-{target}", f"Over all axes: {words}", caption, header, rows)


def _head(row: Row) -> Cell:
    return Cell(row["predictor"], muted=row["kind"] == "baseline")


def _number(row: Row, name: str, *, paired: bool = True) -> Cell:
    """A correlation with its interval, where it has one; bold where that excludes 0."""
    value = row[name]
    if math.isnan(value):
        return Cell(row.get("note") or "–", muted=True)
    if f"{name}.low" not in row:
        return Cell(tau(value))
    certain = paired and (row[f"{name}.low"] > 0 or row[f"{name}.high"] < 0)
    shade = round(max(-1.0, min(1.0, value)), 3)
    return Cell(tau(value), tuple(filter(None, [bounds(row, name)])), shade, certain)


def _of(table: pd.DataFrame, target: str) -> pd.DataFrame:
    return table.loc[table["target"] == target]


def _by_predictor(table: pd.DataFrame) -> Iterable[list[Row]]:
    for _, rows in table.groupby("predictor", sort=False):
        yield _records(rows)


def _records(table: pd.DataFrame) -> list[Row]:
    return table.to_dict(orient="records")
