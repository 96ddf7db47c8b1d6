"""Whether correlations change with parameters per training example, from setting to setting."""

from typing import Any

import numpy as np
import pandas as pd

from gentheory.report.population import MIN_MODELS, Population
from gentheory.report.ranking import Column, Resampling, interval_columns, kind
from gentheory.stats import bootstrap, kendall_interval


def ratios(population: Population, correlations: pd.DataFrame) -> pd.DataFrame:
    """One row a tested setting and predictor: `ratio` = P/n, `parameters`, and its tau.

    `kendall` with `.low` and `.high` is that of `correlations`, whose rows of single settings
    these are; `architecture` is the setting's, without what varies in it. Empty where P/n is the
    same in all settings.
    """
    ranked = population.ranked
    own = ranked.loc[ranked["setting"].isin(population.tested)].drop_duplicates("setting")
    own = own.assign(
        architecture=own["family" if "family" in own else "architecture"],
        ratio=own["num_parameters"] / own["n_train"],
    )
    table = correlations.merge(own.loc[:, ["setting", "architecture", "ratio"]], on="setting")
    return table.loc[:, _RATIOS].iloc[: None if len(set(own["ratio"])) > 1 else 0]


def trends(table: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """How each predictor's tau goes with P/n over the settings of `ratios`.

    One row a predictor with a tau in `MIN_MODELS` settings or more: `kind`, `settings`; `slope`,
    the least-squares change of tau for ten times the P/n; `trend`, Kendall's tau of tau and P/n;
    each with `.low` and `.high`, a 95 % percentile bootstrap over settings. It does not cover
    the errors of the taus themselves beyond what they add to their scatter.
    """
    rows: list[dict[str, Any]] = []
    for name, group in table.groupby("predictor", sort=False):
        known = group.loc[np.isfinite(np.asarray(group["kendall"], dtype=float))]
        if len(known) < MIN_MODELS or known["ratio"].nunique() < 2:
            continue
        x = np.log10(np.asarray(known["ratio"], dtype=float))
        y = np.asarray(known["kendall"], dtype=float)
        row = {"predictor": name, "kind": kind(str(name)), "settings": len(known)}
        row |= interval_columns("slope", bootstrap(slope, x, y, **resampling))
        rows.append(row | interval_columns("trend", kendall_interval(x, y, **resampling)))
    return pd.DataFrame(rows, columns=_TRENDS)


def slope(x: Column, y: Column) -> float:
    """Least-squares slope of y on x, both of shape [N]; nan where x is constant."""
    centred = x - x.mean()
    square = float(centred @ centred)
    varies = np.ptp(x) > 0
    return float(centred @ y) / square if varies else np.nan


_RATIOS = [
    *("setting", "architecture", "predictor", "kind", "ratio"),
    *("kendall", "kendall.low", "kendall.high"),
]
_TRENDS = [
    *("predictor", "kind", "settings", "slope", "slope.low", "slope.high"),
    *("trend", "trend.low", "trend.high"),
]
