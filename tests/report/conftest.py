import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from gentheory.study.claim import Opposite, Statement
from gentheory.study.figure import CourseFigure
from gentheory.study.tables import Tables


def models_of(count, *, seed=0, **columns):
    """Finished models with an independent training loss, learning-rate time and gap."""
    generator = np.random.default_rng(seed)
    known = {
        "model": [f"{seed:08x}{place:08x}" for place in range(count)],
        "data": "mnist",
        "architecture": "3-NN",
        "n_train": 300,
        "label_noise": 0.0,
        "learning_rate": generator.uniform(0.01, 0.1, count),
        "momentum": 0.9,
        "weight_decay": 0.0,
        "batch_size": 32,
        "epochs": 10,
        "seed": 0,
        "outcome": "finished",
        "steps": 100,
        "training_time": generator.uniform(1, 100, count),
        "num_parameters": 700,
        "train_loss": generator.uniform(0.1, 1.0, count),
        "gap": generator.uniform(0.1, 0.5, count),
        "gap_stderr": 0.01,
        "train_accuracy": 0.9,
        "test_accuracy": 0.8,
    }
    table = pd.DataFrame(known | columns)
    return table.assign(test_loss=table["train_loss"] + table["gap"])


def tables_of(models, measures, *, curves=None, **changes):
    """Tables with one measure a name, its values in the order of the models, all of them ok."""
    rows = [
        {"model": model, "measure": name, "value": float(value), "stderr": 0.01}
        | {"status": "ok", "reason": "", "warnings": "[]", "stats": "{}"}
        for name, values in measures.items()
        for model, value in zip(models["model"], values, strict=True)
    ]
    long = pd.DataFrame(rows)
    for place, cells in changes.items():
        row = int(place.removeprefix("row"))
        for column, value in cells.items():
            text = json.dumps(value) if column == "warnings" else value
            long.loc[row, column] = text
    about = ("study", "A title", "First paragraph.\n\nSecond paragraph.")
    provenance = {"commit": "abc", "versions": {"torch": "2.13"}, "seconds": 1.5, "seed": 0}
    empty = pd.DataFrame(columns=["model", "epoch", "train_loss"])
    return Tables(*about, models, long, empty if curves is None else curves, provenance)


def curves_of(models, *, epochs=4):
    rows = [
        {"model": model, "epoch": epoch, "train_loss": loss * (1 + epochs - epoch)}
        for model, loss in zip(models["model"], models["train_loss"], strict=True)
        for epoch in range(1, epochs + 1)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def many():
    """Ten settings of six models, half of them of development, and a rival."""
    rates = np.linspace(0.01, 0.1, 6)
    frames = [
        models_of(6, seed=place, n_train=100 * (place + 1), learning_rate=rates)
        for place in range(10)
    ]
    models = pd.concat(frames, ignore_index=True)
    noise = np.random.default_rng(3).normal(size=len(models))
    values = {
        "validation:0.1": models["test_loss"] + 0.1 * noise,
        "tic.exact": models["gap"] * np.exp(0.1 * noise),
        "norms.parameters": noise,
    }
    tables = tables_of(models, values, curves=curves_of(models))
    chosen = models.loc[models["n_train"] % 200 == 100, "model"]
    costs = [{"model": m, "what": "validation:0.1", "seconds": 2.0} for m in models["model"]]
    return dataclasses.replace(tables, development=frozenset(chosen), costs=pd.DataFrame(costs))


@pytest.fixture
def make_models():
    return models_of


@pytest.fixture
def make_tables():
    return tables_of


@pytest.fixture
def study():
    """Two settings of 12 models, a diverged one, a refused and a noisy measure, curves."""
    models = pd.concat(
        [
            models_of(12, seed=1, architecture="3-LNN"),
            models_of(13, seed=2, outcome=["diverged"] + 12 * ["finished"]),
        ],
        ignore_index=True,
    )
    models.loc[12, ["train_loss", "test_loss", "gap"]] = np.nan
    noise = np.random.default_rng(3).normal(size=25)
    measures = {
        "norms.parameters": noise,
        "tic.diagonal": models["gap"] * np.exp(noise),
        "tic.exact": models["gap"] * np.exp(0.1 * noise),
    }
    failed = {"value": np.nan, "stderr": np.nan, "status": "failed", "reason": "loss not finite"}
    refused = {"value": np.nan, "status": "refused", "reason": "needs 9 GB, 8 GB are free"}
    changes = {
        **{f"row{25 * place + 12}": failed for place in range(3)},
        "row3": refused,
        "row30": {"warnings": ["the gradient norm is 0.1"]},
        "row31": {"warnings": ["the gradient norm is 0.2"]},
    }
    return tables_of(models, measures, curves=curves_of(models), **changes)


@pytest.fixture
def claimed():
    """A study about claims: two losses, five seeds, NC1 and losses at four checkpoints."""
    parts = [
        models_of(5, seed=place, loss=loss, train_accuracy=1.0, learning_rate=0.1).assign(
            seed=range(5)
        )
        for place, loss in enumerate(("cross_entropy", "mse"))
    ]
    models = pd.concat(parts, ignore_index=True)
    trajectory = pd.DataFrame(
        [
            {"model": model, "epoch": epoch, "steps": 10 * epoch, "outcome": "training"}
            | {"train_accuracy": min(1.0, 0.2 + 0.4 * epoch), "test_accuracy": 0.5}
            | {"train_loss": 2.0 / (1 + epoch), "test_loss": 2.0, "gap": 0.1}
            | {"clean_test_loss": 2.0, "validation_loss": np.nan, "training_time": 1.0}
            for model in models["model"]
            for epoch in (0, 1, 2, 4)
        ]
    )
    noise = np.random.default_rng(4).uniform(0.9, 1.1, len(trajectory))
    along = trajectory[["model", "epoch", "steps"]].assign(
        measure="collapse.nc1", value=noise * 100.0 ** (1 - trajectory["epoch"]), status="ok"
    )
    claims = (
        Statement(
            says="NC1 falls more than tenfold after zero training error",
            source="Papyan, Han & Donoho 2020",
            quantity="collapse.nc1",
            statistic="fall",
            start="fitted",
            above=10.0,
        ),
        Statement(
            says="It ends above ten", why="It does not.", quantity="collapse.nc1", above=10.0
        ),
        Statement(
            says="It is lower with cross-entropy",
            quantity="collapse.nc1",
            where={"loss": ["cross_entropy"]},
            against=Opposite(where={"loss": ["mse"]}),
            below=0.0,
        ),
    )
    figures = (
        CourseFigure(title="NC1 along training", quantities=["collapse.nc1"], series="loss"),
        CourseFigure(title="Losses", quantities=["train_loss", "test_loss"], panel="loss"),
    )
    tables = tables_of(models, {"collapse.nc1": along.loc[trajectory["epoch"] == 4, "value"]})
    changes = {"about": "claims", "claims": claims, "figures": figures}
    return dataclasses.replace(
        tables,
        curves=curves_of(models),
        trajectory=trajectory,
        measures_along=along.assign(stderr=0.0),
        **changes,
    )
