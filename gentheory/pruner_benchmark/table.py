"""From the folder of a study to the learning curves that pruners are replayed on."""

from collections.abc import Sequence

import pandas as pd

from gentheory.errors import InputError
from gentheory.pruner_benchmark.curves import SECONDS, Curves
from gentheory.study.alone import ALONE, KEEPING, TRAINING, TRAINING_LOSS, VALIDATION
from gentheory.study.part import Part
from gentheory.study.store import Store

LAZY_FROM = 10.0
"""Parameters per training example from which on a setting counts as close to the NTK regime."""

_MODELS = ["model", "setting", "regime", "params_per_example", "data", "config", "seed"]
_VARIED = ["learning_rate", "momentum", "weight_decay", "batch_size"]
_CURVES = ["train_loss", "validation_loss", "test_loss", "test_error", "training_time"]
_PRICED = ["setting", "data", "batch_size"]
"""What the time that one model takes depends on."""


def curves(store: Store) -> Curves:
    """The study's trainings, each with its losses and criteria after every epoch.

    A setting is an architecture; its models on the part's smallest `n_train` are the ones on
    "training" data, those on `training.validation` more, which are the validation examples, the
    ones on "all". A configuration is a draw. A criterion is the mean loss of all training
    examples plus the predicted gap, nan where the measure gave none.

    Seconds are those of one model by itself, on one thread, as `measures.alone` has them in the
    table of costs: medians over the stacks of the same setting, data and batch size. A
    criterion's are the measure's with all the passes that it needs, the pass over the training
    examples for their loss, and, for residuals along training, what keeping them adds to an
    epoch. They were taken while other processes ran, as were those of the epochs.

    Raises `InputError` for a study without checkpoints after every epoch, without validation
    examples or without costs of single models, and as `Store.table` does.
    """
    models = pd.concat([_models(store, number) for number in range(len(store.study.parts))])
    trajectory = store.table("trajectory")
    trajectory["test_error"] = 1 - trajectory["test_accuracy"]
    rows = models.merge(trajectory[["model", "epoch", *_CURVES]], on="model", validate="1:m")
    rows = rows[rows["epoch"] > 0]
    _check_epochs(rows, store)
    along = store.table("measures_along")
    wide = along[along["status"] == "ok"].pivot_table("value", ["model", "epoch"], "measure")
    criteria = [name for part in store.study.parts for name in part.measures.along]
    wide = wide.reindex(columns=list(dict.fromkeys(criteria)))
    rows = rows.merge(wide, on=["model", "epoch"], how="left")
    rows = rows.merge(_seconds(store, models, list(wide.columns)), on=_PRICED, how="left")
    for name in wide.columns:
        rows[name] += rows["train_loss"]
    return Curves(rows.drop(columns="model").reset_index(drop=True))


def _models(store: Store, number: int) -> pd.DataFrame:
    """The models of one part, by setting, data, configuration and seed."""
    part, models = store.study.parts[number], store.table("models")
    models = models[models["part"] == number].rename(columns={"architecture": "setting"})
    validation = part.training.validation
    if validation is None or part.draws is None:
        found = "no training.validation" if validation is None else "no draws"
        raise InputError(f"{store.path}, parts[{number}]", found, "both", "give them")
    n_train = models["n_train"].min()
    known = {n_train: "training", n_train + validation: "all"}
    if other := sorted({*models["n_train"]} - {*known}):
        raise InputError(
            f"{store.path}, parts[{number}]",
            f"n_train {other[0]}",
            f"{n_train} and {n_train + validation}, with the validation examples",
            "correct grid.n_train or training.validation",
        )
    per_example = models["num_parameters"] / n_train
    models = models.assign(
        data=models["n_train"].map(known),
        params_per_example=per_example,
        regime=["lazy" if ratio >= LAZY_FROM else "rich" for ratio in per_example],
        config=[f"{draw:04d}" for draw in models["draw"]],
        seed=models["seed"] % part.draws.repeats,
    )
    return models[[*_MODELS, *_VARIED]]


def _check_epochs(rows: pd.DataFrame, store: Store) -> None:
    epochs = [part.training.epochs for part in store.study.parts]
    found = [sorted({*own["epoch"]}) for _, own in rows.groupby("setting", sort=False)]
    for own in found:
        if own != list(range(1, max(epochs) + 1)):
            raise InputError(
                f"{store.path}, training.checkpoints",
                f"{own}",
                f"every epoch from 1 to {max(epochs)}",
                "name them all, and run the study again",
            )


def _seconds(store: Store, models: pd.DataFrame, criteria: Sequence[str]) -> pd.DataFrame:
    """What one model alone takes, for every combination of what this depends on."""
    costs = store.table("costs")
    costs = costs[costs["what"].str.endswith(ALONE)]
    if costs.empty:
        cure = "set measures.alone = true, and run the study again"
        raise InputError(f"{store.path}, costs", "no model alone", "one of each stack", cure)
    own = costs.assign(what=costs["what"].str.removesuffix(ALONE))
    own = own.merge(models[["model", *_PRICED]], on="model")
    wide = own.pivot_table("seconds", _PRICED, "what", aggfunc="median").reset_index()
    found = wide[_PRICED].assign(epoch_seconds=wide[TRAINING], validation_seconds=wide[VALIDATION])
    for name in criteria:
        keeping = wide[KEEPING] if _needs_trajectory(store.study.parts, name) else 0.0
        found[name + SECONDS] = wide[name] + wide[TRAINING_LOSS] + keeping
    return found


def _needs_trajectory(parts: Sequence[Part], name: str) -> bool:
    options = (part.measures.options.get(name, {}) for part in parts)
    return any(own.get("residuals") == "training" for own in options)
