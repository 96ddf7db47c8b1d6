"""From the folder of a study to the learning curves that pruners are replayed on."""

from collections.abc import Sequence

import numpy as np
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
_TESTED = ["test_loss", "test_accuracy"]
_LOSSES = ["validation_loss", "test_loss", "test_error", "training_time"]
_PRICED = ["setting", "data", "batch_size"]
"""What the time that one model takes depends on."""


def curves(store: Store) -> Curves:
    """The study's trainings, each with its training loss after every epoch, and with the other
    losses and the criteria after those of `training.checkpoints`, nan after the others.

    A setting is an architecture; its models on the part's smallest `n_train` are the ones on
    "training" data, those on `training.validation` more, which are the validation examples, the
    ones on "all". A configuration is a draw. A criterion is the mean loss of all training
    examples plus the predicted gap, nan where the measure gave none.

    Seconds are CPU time of one model by itself, as `measures.alone` has them in the table of
    costs: medians over the stacks of the same setting, data and batch size. A
    criterion's are the measure's with all the passes that it needs, the pass over the training
    examples for their loss, and, for residuals along training, what keeping them adds to an
    epoch.

    Raises `InputError` for a study whose parts differ in epochs, or have none of the last among
    their checkpoints, no draws, no validation examples or no costs of single models, and as
    `Store.table` does.
    """
    parts, place = store.study.parts, ["model", "epoch"]
    trained = sorted(set(map(int, store.table("models")["part"])))
    models = pd.concat([_models(store, number) for number in trained])
    rows = models.merge(pd.DataFrame({"epoch": range(1, parts[0].training.epochs + 1)}), "cross")
    rows = rows.merge(store.table("curves"), on=place, how="left")
    rows = rows.merge(_losses(store), on=place, how="left")
    times = rows.groupby("model", sort=False)["training_time"]
    rows["training_time"] = times.transform(lambda own: own.interpolate(limit_area="inside"))
    along = store.table("measures_along")
    wide = along[along["status"] == "ok"].pivot_table("value", place, "measure")
    criteria = list(dict.fromkeys(name for part in parts for name in part.measures.along))
    rows = rows.merge(wide.reindex(columns=criteria), on=place, how="left")
    rows = rows.merge(_seconds(store, models, criteria), on=_PRICED, how="left")
    rows[criteria] = rows[criteria].add(rows["train_loss"], axis=0)
    rows.loc[rows["data"] == "all", "validation_loss"] = np.nan
    return Curves(rows.drop(columns="model").reset_index(drop=True))


def _losses(store: Store) -> pd.DataFrame:
    """Of every checkpoint along training; at the last one the test examples are all there are."""
    along, models = store.table("trajectory"), store.table("models")
    ends = models.rename(columns={"epochs": "epoch"})[["model", "epoch", *_TESTED]]
    along = along.merge(ends, on=["model", "epoch"], how="left", suffixes=("", " of all"))
    for name in _TESTED:
        along[name] = along[f"{name} of all"].fillna(along[name])
    along = along.assign(test_error=1 - along["test_accuracy"])
    return along.loc[:, ["model", "epoch", *_LOSSES]]


def _models(store: Store, number: int) -> pd.DataFrame:
    """The models of one part, by setting, data, configuration and seed."""
    models = store.table("models")
    models = models.loc[models["part"] == number, :]
    models = models.rename(columns={"architecture": "setting"})
    repeats, validation = _checked(store, number)
    sizes = sorted(set(map(int, models["n_train"])))
    n_train = sizes[0]
    known = {n_train: "training", n_train + validation: "all"}
    if other := sorted(set(sizes) - set(known)):
        raise InputError(
            f"{store.path}, parts[{number}]",
            f"n_train {other[0]}",
            f"{n_train} and {n_train + validation}, with the validation examples",
            "correct grid.n_train or training.validation",
        )
    per_example = models["num_parameters"] / n_train
    models = models.assign(
        data=[known[int(size)] for size in models["n_train"]],
        params_per_example=per_example,
        regime=["lazy" if ratio >= LAZY_FROM else "rich" for ratio in per_example],
        config=[f"{draw:04d}" for draw in models["draw"]],
        seed=models["seed"] % repeats,
    )
    return models.loc[:, [*_MODELS, *_VARIED]]


def _checked(store: Store, number: int) -> tuple[int, int]:
    """Seeds of each draw and validation examples of a part that has what is needed."""
    part, first = store.study.parts[number], store.study.parts[0]
    training, lacking = part.training, list[str]()
    lacking += ["draws"] if part.draws is None else []
    lacking += ["training.validation"] if training.validation is None else []
    lacking += [] if training.epochs in training.checkpoints else ["checkpoint at the end"]
    lacking += [] if training.epochs == first.training.epochs else ["such epochs as the first part"]
    if part.draws is None or training.validation is None or lacking:
        place = f"{store.path}, parts[{number}]"
        raise InputError(place, f"no {', no '.join(lacking)}", "all of them", "give them")
    return part.draws.repeats, training.validation


def _seconds(store: Store, models: pd.DataFrame, criteria: Sequence[str]) -> pd.DataFrame:
    """What one model alone takes, for every combination of what this depends on."""
    costs = store.table("costs")
    costs = costs.loc[[str(what).endswith(ALONE) for what in costs["what"]], :]
    if costs.empty:
        cure = "set measures.alone = true, and run the study again"
        raise InputError(f"{store.path}, costs", "no model alone", "one of each stack", cure)
    own = costs.assign(what=[str(what).removesuffix(ALONE) for what in costs["what"]])
    own = own.merge(models[["model", *_PRICED]], on="model")
    wide = own.pivot_table("seconds", _PRICED, "what", aggfunc="median").reset_index()
    found = wide[_PRICED].assign(epoch_seconds=wide[TRAINING], validation_seconds=wide[VALIDATION])
    for name in criteria:
        keeping = wide[KEEPING] if _needs_trajectory(store.study.parts, name) else 0.0
        found[name + SECONDS] = wide[name] + wide[TRAINING_LOSS] + keeping
    return found


def _needs_trajectory(parts: Sequence[Part], name: str) -> bool:
    options = (part.measures.options.get(name, {}) for part in parts)
    return any("training" in (o.get("residuals"), o.get("curvature")) for o in options)
