"""Where each setting stands: the spread of the measures that tell one regime from another."""

from typing import Any

import numpy as np
import pandas as pd

from gentheory.report.population import Population


def regimes(population: Population, describing: tuple[str, ...]) -> pd.DataFrame:
    """One row a setting and describing measure: `count`, `low`, `median` and `high`.

    Quartiles over the ranked models of the setting; nan where none has a number.
    """
    rows: list[dict[str, Any]] = []
    for setting in population.settings:
        frame = population.ranked.loc[population.ranked["setting"] == setting]
        for measure in describing:
            values = np.asarray(frame[measure], dtype=float)
            values = values[np.isfinite(values)]
            quartiles = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [np.nan] * 3
            row = {"setting": setting, "measure": measure, "count": len(values)}
            rows.append(row | dict(zip(("low", "median", "high"), quartiles, strict=True)))
    columns = ["setting", "measure", "count", "low", "median", "high"]
    return pd.DataFrame(rows, columns=columns)
