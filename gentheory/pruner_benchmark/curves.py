"""The table of learning curves that pruners are replayed on: checked, then as dense arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.seeds import seed_of

Array = NDArray[np.float64]
Data = Literal["training", "all"]
"""What a model was trained on: the training examples, or the held-out ones with them."""
HALVES = ("all", "first-half", "second-half")

SECONDS = " seconds"
_KEY = ["setting", "data", "config", "seed", "epoch"]
_ALLOWED = {"regime": {"lazy", "rich"}, "data": {"training", "all"}}
_NUMBERS = (
    "params_per_example",
    "train_loss",
    "validation_loss",
    "test_loss",
    "test_error",
    "training_time",
    "epoch_seconds",
    "validation_seconds",
)


@dataclass(frozen=True)
class Table:
    """One setting: n configurations with S seeds over T epochs; what is missing is nan."""

    setting: str
    regime: str
    params_per_example: float
    configs: tuple[str, ...]
    columns: Mapping[Data, Mapping[str, Array]]
    """Each column [n, S, T] by what the models were trained on."""
    present: NDArray[np.bool_]
    """Which models there are, on every kind of data of the setting; shape [n, S]."""

    @property
    def horizon(self) -> int:
        """T, the epochs of a whole training."""
        return next(iter(self.columns.values()))["epoch"].shape[2]

    @cached_property
    def unit(self) -> float:
        """Seconds of one epoch-equivalent: the median epoch on the training examples."""
        return float(np.nanmedian(self.columns["training"]["epoch_seconds"]))

    def cost(self, data: Data, column: str) -> Array:
        """Epoch-equivalents of a column of seconds: each configuration's median, shape [n].

        A configuration without any takes the median of all.
        """
        seconds = self.columns[data][column].reshape(len(self.configs), -1)
        known = np.isfinite(seconds).any(axis=1)
        cost = np.full(len(seconds), np.nanmedian(seconds))
        cost[known] = np.nanmedian(seconds[known], axis=1)
        return cost / self.unit


@dataclass(frozen=True)
class Curves:
    """Learning curves of whole trainings, one row a setting, data, config, seed and epoch.

    Columns: `setting`; `regime`, "lazy" or "rich"; `params_per_example`; `data`, "training" or
    "all"; `config`, the same hyper-parameters under the same label; `seed`; `epoch` from 1 to T;
    `train_loss`, `validation_loss` (nan on all data), `test_loss`, `test_error`, nan from where
    a model diverged; `training_time`, the learning rate over 1 - momentum summed over steps;
    `epoch_seconds`, `validation_seconds`; and for each criterion a column of its name, training
    loss plus predicted gap or nan where that is unknown, with a column `<name> seconds`.

    Raises `InputError` for a missing column, a value that is none of the allowed, a model with
    two rows for an epoch or none, and a setting without models on the training examples.
    """

    rows: pd.DataFrame

    def __post_init__(self) -> None:
        _check(self.rows)

    @classmethod
    def read(cls, file: Path) -> "Curves":
        """From a Parquet file with these columns."""
        if not file.is_file():
            raise InputError(str(file), "no file", "a Parquet file of curves", "check the path")
        with duckdb.connect() as connection:
            try:
                return cls(connection.read_parquet(str(file)).df())
            except duckdb.Error as error:
                found, cure = str(error).splitlines()[0], "write one with the columns of Curves"
                raise InputError(str(file), found, "a Parquet file", cure) from error

    @property
    def criteria(self) -> tuple[str, ...]:
        """Columns that have one of seconds beside them, in their order."""
        names = list(map(str, self.rows.columns))
        return tuple(name for name in names if name + SECONDS in names)

    def half(self, which: str) -> "Curves":
        """`all` configurations, or the `first-half` or `second-half` by a hash of their labels.

        So a criterion that was improved on one half is reported on the other. Raises
        `InputError` for any other name.
        """
        if which not in HALVES:
            raise InputError("configs", which, " or ".join(HALVES), "give one of them")
        if which == "all":
            return self
        wanted = int(which == "second-half")
        kept = [seed_of("half", str(c)) % 2 == wanted for c in self.rows["config"]]
        return Curves(self.rows.loc[kept])

    def tables(self) -> list[Table]:
        """One for each setting, in the order of first appearance."""
        names = ("epoch", *_NUMBERS, *self.criteria, *(c + SECONDS for c in self.criteria))
        groups = self.rows.groupby("setting", sort=False)
        return [_table(str(setting), rows, names) for setting, rows in groups]


def _table(setting: str, rows: pd.DataFrame, names: tuple[str, ...]) -> Table:
    configs, config = np.unique(np.array(rows["config"], dtype=str), return_inverse=True)
    seeds, seed = np.unique(np.asarray(rows["seed"]), return_inverse=True)
    epoch = np.asarray(rows["epoch"], dtype=int) - 1
    shape = len(configs), len(seeds), int(epoch.max()) + 1
    data, columns = np.array(rows["data"], dtype=str), dict[Data, Mapping[str, Array]]()
    for kind in cast("tuple[Data, ...]", ("training", "all")):
        own = data == kind
        if own.any():
            place = config[own], seed[own], epoch[own]
            columns[kind] = {name: _dense(rows.loc[own, name], place, shape) for name in names}
    present = np.all([np.isfinite(own["epoch"][:, :, 0]) for own in columns.values()], axis=0)
    regime, size = rows["regime"].iloc[0], float(rows["params_per_example"].iloc[0])
    return Table(setting, str(regime), size, tuple(map(str, configs)), columns, present)


def _dense(values: pd.Series, place: tuple[NDArray[np.intp], ...], shape: tuple[int, ...]) -> Array:
    dense = np.full(shape, np.nan)
    dense[place] = np.asarray(values, dtype=float)
    return dense


def _check(rows: pd.DataFrame) -> None:
    missing = [name for name in (*_KEY, "regime", *_NUMBERS) if name not in rows.columns]
    if missing:
        expected = "the columns of Curves"
        raise InputError("curves", f"no column {', '.join(missing)}", expected, "add them")
    if rows.empty:
        raise InputError("curves", "no rows", "learning curves", "train some models first")
    for name, allowed in _ALLOWED.items():
        wrong = sorted({str(value) for value in rows[name]} - allowed)
        if wrong:
            raise InputError(f"curves.{name}", wrong[0], " or ".join(sorted(allowed)), "mend it")
    twice = rows.loc[rows.duplicated(_KEY), _KEY]
    if len(twice):
        raise InputError(
            "curves", f"two rows of {twice.iloc[0].to_dict()}", "one", "drop the other"
        )
    _check_settings(rows)


def _check_settings(rows: pd.DataFrame) -> None:
    for setting, own in rows.groupby("setting", sort=False):
        place, horizon = f"curves of {setting}", own["epoch"].max()
        if len(set(map(str, own["regime"]))) > 1:
            raise InputError(place, "two regimes", "one", "split the setting")
        if "training" not in set(map(str, own["data"])):
            found, cure = "no model on the training examples", "train them for the comparison"
            raise InputError(place, found, "models with a validation loss", cure)
        models = own.groupby(_KEY[1:-1])["epoch"].agg(["min", "max", "size"])
        short = models.loc[(models["min"] != 1) | (models["max"] != horizon)]
        short = short if len(short) else models.loc[models["size"] != horizon]
        if len(short):
            found, expected = f"gaps in model {short.index[0]}", f"each epoch from 1 to {horizon}"
            raise InputError(place, found, expected, "nan stands for what is unknown")
        seconds = np.asarray(own.loc[own["data"] == "training", "epoch_seconds"], dtype=float)
        if not np.nanmax(seconds, initial=0.0) > 0:
            expected = "positive seconds of an epoch"
            raise InputError(place, "no positive epoch_seconds", expected, "measure them")
