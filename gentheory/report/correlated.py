"""Which measures of a study order its models alike: correlations of all with one another."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.figures.drawing import Drawing
from gentheory.plots.correlation_matrix import correlation_matrix
from gentheory.report.population import MIN_MODELS, Population, population
from gentheory.stats import kendall
from gentheory.study.tables import Tables

_TARGETS = {"gap": "gap", "test_loss": "test loss", "train_loss": "training loss"}


def correlations(tables: Tables) -> list[Drawing]:
    """One figure: Kendall's tau of every two measures, the gap and the losses, mean over settings.

    Settings of fewer than five models in which both are known do not count. Raises `InputError`
    where there is no such pair.
    """
    people = population(tables)
    table = correlated(people)
    settings = len(people.tested)

    def draw(**sizes: Any) -> list[Axes]:
        return [correlation_matrix(table, **sizes)]

    return [
        Drawing(
            "correlations",
            "Correlations of the measures with one another",
            f"Kendall's τ over the models of a setting, its mean over {settings} "
            f"setting{'s' * (settings > 1)}; measures that order models alike, or the other way "
            "round, stand beside each other.",
            {"correlations": table},
            draw,
            {"width": 3.9},
        )
    ]


def correlated(people: Population) -> pd.DataFrame:
    """Columns row, column and value, every pair once; pairs that are nowhere known are left out."""
    columns = {**_TARGETS, **{name: name for name in people.measures}}
    frames = [
        {name: np.asarray(own[column], dtype=float) for column, name in columns.items()}
        for setting in people.tested
        if len(own := people.ranked.loc[people.ranked["setting"] == setting])
    ]
    rows = [
        {"row": one, "column": other, "value": value}
        for one, other in combinations(columns.values(), 2)
        if np.isfinite(value := _mean([_tau(frame[one], frame[other]) for frame in frames]))
    ]
    if not rows:
        raise InputError(
            "plot correlations",
            "no two measures of the same models",
            f"a setting with {MIN_MODELS} models or more",
            "run a study with more models or measures",
        )
    return pd.DataFrame(rows)


def _tau(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    known = np.isfinite(one) & np.isfinite(other)
    return kendall(one[known], other[known]) if known.sum() >= MIN_MODELS else float("nan")


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
