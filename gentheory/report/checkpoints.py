"""The checkpoints along training: what they are counted in, their measures, tau with the gap."""

from collections.abc import Iterable
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.stats import kendall_within
from gentheory.study.tables import Tables

Unit: TypeAlias = Literal["epoch", "steps"]


def unit(tables: Tables) -> Unit:
    """Epochs where every checkpoint is at the end of one, else steps of the optimizer."""
    models = tables.models.set_index("model")
    sizes = models.loc[tables.trajectory["model"], ["n_train", "batch_size"]].to_numpy(dtype=float)
    steps = np.asarray(tables.trajectory["steps"], dtype=float)
    inside = steps % np.ceil(sizes[:, 0] / sizes[:, 1]) > 0
    return "steps" if inside.any() else "epoch"


def measured(tables: Tables, frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """These rows of `Tables.trajectory` with a column a measure, nan where it has no number."""
    keys, long = ["model", unit(tables)], tables.measures_along
    for name in names:
        own = long.loc[(long["measure"] == name) & (long["status"] == "ok"), [*keys, "value"]]
        values = own.rename(columns={"value": name})
        frame = frame.merge(values, on=keys, how="left", validate="one_to_one")
    return frame


def taus(frame: pd.DataFrame, predictor: NDArray[np.float64]) -> pd.Series:
    """Tau of a predictor with the gap over each model's checkpoints, nan where it is undefined.

    By model, in the rising order of their names.
    """
    gap = np.asarray(frame["gap"], dtype=float)
    kept = np.isfinite(predictor) & np.isfinite(gap)
    models = np.asarray(frame["model"].loc[kept], dtype=str)
    found = pd.Series(kendall_within(predictor[kept], gap[kept], models), np.unique(models))
    return found.reindex(sorted(set(frame["model"])))
