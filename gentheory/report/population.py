"""Which models of a study are ranked, in which settings, and which are left out and why."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.study.tables import Tables

MIN_MODELS = 5
"""A correlation or a ratio of fewer models is not reported: it would say "too few"."""

ALL = "all models"
ALL_HELD_OUT = "all held-out settings"

MANY_SETTINGS = 8
"""Above it, settings are shown as a heat map, and their tables are folded."""

MODEL_COLUMNS = [
    *("model", "data", "architecture", "n_train", "label_noise", "outcome", "training_time"),
    *("train_loss", "test_loss", "train_accuracy", "test_accuracy", "gap", "gap_stderr"),
    *("learning_rate", "momentum", "weight_decay", "batch_size", "epochs", "num_parameters"),
]
MEASURE_COLUMNS = ["model", "measure", "value", "stderr", "status", "reason", "warnings"]
CURVE_COLUMNS = ["model", "epoch", "train_loss"]

POINT = ["learning_rate", "momentum", "weight_decay", "batch_size", "epochs"]
"""What two models share if they differ in their seed or their setting alone."""

MISSED = "training loss not as low as it was to be"
"""Why a model is not ranked that did not come down to the loss at which to stop."""

_LOSSES = ["train_loss", "test_loss", "gap", "training_time"]
_GROUPING = {"data": "{}", "architecture": "{}", "n_train": "n {}", "label_noise": "noise {:g}"}


@dataclass(frozen=True)
class Population:
    """The models that are ranked, and those that are not."""

    models: pd.DataFrame
    """Every model: `Tables.wide` with three more columns: `setting`; `excluded`, the reason why a
    model is not ranked ("" where it is); `point`, one number for each choice of `POINT`."""
    settings: tuple[str, ...]
    """The settings in the order of data, architecture, training examples and label noise."""
    measures: tuple[str, ...]
    """Names in the order of the study, the main predicted gap first."""
    rivals: tuple[str, ...] = ()
    """Losses on examples held out, which stand for the test loss as they are."""
    development: frozenset[str] = frozenset()
    """Settings on which a choice was made: what is said of all models leaves them aside."""

    @property
    def ranked(self) -> pd.DataFrame:
        """The models that trained to a finite training loss, test loss and gap."""
        return self.models.loc[self.models["excluded"] == ""]

    @property
    def sizes_vary(self) -> bool:
        """Whether the ranked models differ in their numbers of parameters."""
        return len(set(self.ranked["num_parameters"])) > 1

    @property
    def tested(self) -> tuple[str, ...]:
        """The settings on which nothing was chosen."""
        return tuple(setting for setting in self.settings if setting not in self.development)

    @property
    def overall(self) -> str:
        """What the ranked models of all tested settings are called."""
        return ALL_HELD_OUT if self.development else ALL

    def groups(self) -> list[tuple[str, pd.DataFrame]]:
        """The ranked models of all tested settings together, then those of every setting.

        Where there is one setting, it is there once; those of development come last.
        """
        ranked = self.ranked
        last = tuple(setting for setting in self.settings if setting in self.development)
        settings = (*self.tested, *last) if len(self.settings) > 1 else ()
        within = [(setting, ranked.loc[ranked["setting"] == setting]) for setting in settings]
        return [(self.overall, ranked.loc[ranked["setting"].isin(self.tested)]), *within]


def population(tables: Tables) -> Population:
    """Sort the models of a study into settings, the groups by what varies among four columns.

    These are the data, the architecture, the number of training examples and the label noise. A
    model is left out of every ranking where it diverged, was given up, has a loss that is not
    finite, or was to stop at a training loss that it did not reach. Raises `InputError` for tables
    without a model, a measure or a column that a report needs.
    """
    _check(tables)
    models = tables.wide()
    labels = _labels(models)
    names = list(dict.fromkeys(str(name) for name in tables.measures["measure"]))
    measures = [name for name in names if not is_rival(name)]
    chosen = zip(models["model"], labels, strict=True)
    return Population(
        models.assign(setting=labels, excluded=_exclusions(models), point=_points(models)),
        tuple(dict.fromkeys(labels[row] for row in _order(models))),
        tuple(_main_first(measures, tables.main or "tic.exact")),
        tuple(filter(is_rival, names)),
        frozenset(setting for model, setting in chosen if model in tables.development),
    )


def clusters(frame: pd.DataFrame) -> NDArray[np.intp] | None:
    """The rows that a bootstrap draws together, those of one hyper-parameter point; shape [M].

    They are not independent, so their number would make intervals look too narrow. None, each
    row by itself, where fewer than `MIN_MODELS` points say nothing about the spread.
    """
    points = np.asarray(frame["point"], dtype=np.intp)
    return points if len(np.unique(points)) >= MIN_MODELS else None


def is_predicted_gap(measure: str) -> bool:
    """Whether a measure estimates test loss minus training loss, in units of the loss."""
    return measure.split(".")[0] == "tic"


def is_rival(measure: str) -> bool:
    """Whether it is a loss on training examples held out, such as "validation:0.1"."""
    return measure.split(":")[0] in ("validation", "cross_validation")


def _check(tables: Tables) -> None:
    for place, table, columns in (
        ("tables.models", tables.models, MODEL_COLUMNS),
        ("tables.measures", tables.measures, MEASURE_COLUMNS),
    ):
        if table.empty:
            cure = "run the study first, or name the folder of one that has run"
            raise InputError(place, "an empty table", "at least one row", cure)
        _require(place, table, columns)
    if len(tables.curves):
        _require("tables.curves", tables.curves, CURVE_COLUMNS)


def _require(place: str, table: pd.DataFrame, columns: list[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        found, cure = f"no column {', '.join(missing)}", "read the tables again from the study"
        raise InputError(place, found, f"the columns {', '.join(columns)}", cure)


def _labels(models: pd.DataFrame) -> list[str]:
    columns = {name: list(models[name]) for name in _GROUPING}
    varying = [name for name, values in columns.items() if len(set(values)) > 1]
    texts = [
        [_GROUPING[name].format(value) for value in columns[name]]
        for name in varying or ["architecture"]
    ]
    return [", ".join(parts) for parts in zip(*texts, strict=True)]


def _order(models: pd.DataFrame) -> list[int]:
    """Rows by data and architecture as they come in the study, then by numbers in rising order."""
    columns = [list(models[name]) for name in _GROUPING]
    first = [list(dict.fromkeys(column)).index for column in columns[:2]]
    keys = [
        (first[0](data), first[1](architecture), *numbers)
        for data, architecture, *numbers in zip(*columns, strict=True)
    ]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _exclusions(models: pd.DataFrame) -> list[str]:
    finite = [bool(np.isfinite(row).all()) for row in np.asarray(models[_LOSSES], dtype=float)]
    stops = models["stop_at_loss"] if "stop_at_loss" in models else [np.nan] * len(models)
    return [
        _exclusion(outcome, is_finite, pd.notna(stop))
        for outcome, is_finite, stop in zip(models["outcome"], finite, stops, strict=True)
    ]


def _exclusion(outcome: str, is_finite: bool, was_to_stop: bool) -> str:
    if outcome in ("diverged", "failed"):
        return outcome
    if not is_finite:
        return "loss not finite"
    # Gaps at unequal training losses differ for that alone.
    return MISSED if was_to_stop and outcome != "target" else ""


def _points(models: pd.DataFrame) -> list[int]:
    keys = list(zip(*(map(str, models[column]) for column in POINT), strict=True))
    place = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    return [place[key] for key in keys]


def _main_first(measures: Iterable[str], main: str) -> list[str]:
    """The main predicted gap first, the other ones next, everything else last."""
    return sorted(measures, key=lambda name: (not is_predicted_gap(name), name != main))
