"""The work of one shard: build a stack of models, train it, evaluate it, measure each."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gentheory import checkpoint, losses, models
from gentheory.checkpoint import Checkpoint
from gentheory.data.recipe import Recipe
from gentheory.data.split import Split
from gentheory.estimate import Estimate
from gentheory.measures import measure, table_row
from gentheory.params import Layout, flatten
from gentheory.risk import EmpiricalRisk
from gentheory.seeds import generator, seed_of
from gentheory.study.plan import Point, Shard
from gentheory.study.store import Store, write_json, write_table
from gentheory.training.evaluate import Evaluation, evaluate
from gentheory.training.loop import Plan, Trained, train

PROGRESS_SECONDS = 0.5
"""Least time between two signs of life of a shard in flight."""

_MODELS = {
    "model": "varchar",
    "shard": "varchar",
    "position": "integer",
    "architecture": "varchar",
    "n_train": "integer",
    "label_noise": "double",
    "learning_rate": "double",
    "momentum": "double",
    "weight_decay": "double",
    "batch_size": "integer",
    "epochs": "integer",
    "schedule": "varchar",
    "seed": "bigint",
    "draw": "integer",
    "outcome": "varchar",
    "steps": "integer",
    "training_time": "double",
    "num_parameters": "integer",
    "train_loss": "double",
    "test_loss": "double",
    "train_accuracy": "double",
    "test_accuracy": "double",
    "gap": "double",
    "gap_stderr": "double",
}
_MEASURES = {
    "model": "varchar",
    "measure": "varchar",
    "value": "double",
    "stderr": "double",
    "status": "varchar",
    "reason": "varchar",
    "warnings": "varchar",
    "stats": "varchar",
}
_CURVES = {"model": "varchar", "epoch": "integer", "train_loss": "double"}
_COSTS = {"model": "varchar", "what": "varchar", "seconds": "double"}

Report = Callable[[Mapping[str, Any]], None]


def run_shard(store: Store, shard: Shard) -> None:
    """Train and measure the shard, and commit it, unless another runner has done so by now.

    A model that diverges or a measure that fails is a row with its reason; only what stops the
    whole shard raises.
    """
    if store.is_done(shard.id):
        return
    torch.set_num_threads(shard.threads)
    with store.writing(shard.id) as folder:
        work(shard, folder, _reporter(folder))


def work(shard: Shard, folder: Path, report: Report) -> None:
    """Write the shard's tables and weights into the folder."""
    points, first = shard.points, shard.points[0]
    recipe = Recipe(**first.data)
    data, loss = recipe.train(), losses.resolve(first.settings["loss"])
    modules = [_initialized(point, recipe.seed) for point in points]
    module, dtype = modules[0], getattr(torch, first.settings["dtype"])
    initial = torch.stack([flatten(m) for m in modules]).to(dtype)
    orders = [generator(recipe.seed, "order", point.settings["seed"]) for point in points]
    start = time.perf_counter()
    trained = train(
        module,
        loss,
        initial,
        data,
        _plan(points),
        orders,
        progress=lambda share: report({"trained": share, "measured": 0}),
    )
    seconds = (time.perf_counter() - start) / len(points)
    figures = evaluate(module, loss, trained.theta, data, recipe.test())
    records = [_record(point, trained, m) for m, point in enumerate(points)]
    checkpoint.save(
        folder / "weights.safetensors",
        trained.theta,
        initial,
        layout=Layout.of(module),
        records=records,
        mean_residuals=trained.mean_residuals,
    )
    costs = [{"model": point.id, "what": "training", "seconds": seconds} for point in points]
    rows: list[dict[str, Any]] = []
    for m, point in enumerate(points):
        report({"trained": 1.0, "measured": m})
        if trained.outcomes[m] == "diverged":
            rows += [_diverged(point, name) for name in shard.measures["names"]]
            continue
        subject = _checkpoint(module, data, trained, initial, records, m, shard.measures)
        results = _measured(subject, point, shard.measures)
        rows += [{"model": point.id, **table_row(n, e)} for n, e in results.items()]
        costs += [{"model": point.id, "what": n, "seconds": s} for n, s in results.seconds.items()]
    write_table(folder / "models.parquet", _model_rows(shard, trained, figures), _MODELS)
    write_table(folder / "measures.parquet", rows, _MEASURES)
    write_table(folder / "curves.parquet", _curve_rows(points, trained), _CURVES)
    write_table(folder / "costs.parquet", costs, _COSTS)


def _initialized(point: Point, study_seed: int) -> nn.Module:
    """The untrained module: its numbers depend on the study's seed and the point's alone."""
    return models.build(
        point.model["name"],
        shape=tuple(point.model["shape"]),
        num_classes=point.model["num_classes"],
        options=point.model["options"],
        seed=seed_of(study_seed, "init", point.settings["seed"]),
    )


def _plan(points: tuple[Point, ...]) -> Plan:
    def column(name: str) -> Tensor:
        return torch.tensor([point.settings[name] for point in points], dtype=torch.float64)

    shared = points[0].settings
    return Plan(
        shared["epochs"],
        shared["batch_size"],
        column("learning_rate"),
        column("momentum"),
        column("weight_decay"),
        shared["schedule"],
        shared["stop_at_loss"],
        shared["keep_residuals"],
    )


def _record(point: Point, trained: Trained, m: int) -> dict[str, Any]:
    """What the checkpoint's file says of this model."""
    return {
        "id": point.id,
        "architecture": point.architecture,
        "model": dict(point.model),
        "data": dict(point.data),
        "loss": point.settings["loss"],
        "weight_decay": point.settings["weight_decay"],
        "settings": dict(point.settings),
        "outcome": trained.outcomes[m],
        "steps": int(trained.steps[m]),
        "training_time": float(trained.training_time[m]),
    }


def _checkpoint(
    module: nn.Module,
    data: Split,
    trained: Trained,
    initial: Tensor,
    records: list[dict[str, Any]],
    m: int,
    measures: Mapping[str, Any],
) -> Checkpoint:
    record = records[m]
    risk = EmpiricalRisk(
        module,
        record["loss"],
        data,
        weight_decay=record["weight_decay"],
        theta=trained.theta[m],
        dtype=getattr(torch, measures["dtype"]),
    )
    kept = trained.mean_residuals
    return Checkpoint(
        risk,
        initial[m].to(risk.theta),
        record["steps"],
        record["training_time"],
        None if kept is None else kept[m].to(risk.theta),
        record,
    )


def _measured(subject: Checkpoint, point: Point, measures: Mapping[str, Any]) -> Any:
    seed = seed_of(point.id)
    return measure(subject, measures["names"], seed=seed, options=measures["options"], strict=False)


def _diverged(point: Point, name: str) -> dict[str, Any]:
    return {
        "model": point.id,
        **table_row(name, Estimate.missing("refused", "the model's training diverged")),
    }


def _model_rows(shard: Shard, trained: Trained, figures: Evaluation) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for m, point in enumerate(shard.points):
        diverged = trained.outcomes[m] == "diverged"
        names = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "gap", "gap_stderr")
        # The parameters are those of the last good epoch: not what this training led to.
        measured = {n: math.nan if diverged else float(getattr(figures, n)[m]) for n in names}
        rows.append(
            {
                **point.settings,
                "model": point.id,
                "shard": shard.id,
                "position": m,
                "architecture": point.architecture,
                "n_train": point.data["n_train"],
                "draw": point.draw,
                "outcome": trained.outcomes[m],
                "steps": int(trained.steps[m]),
                "training_time": float(trained.training_time[m]),
                "num_parameters": point.model["num_params"],
                **measured,
            }
        )
    return rows


def _curve_rows(points: tuple[Point, ...], trained: Trained) -> list[dict[str, Any]]:
    return [
        {"model": point.id, "epoch": epoch, "train_loss": value}
        for m, point in enumerate(points)
        for epoch, value in enumerate(trained.curve[:, m].tolist())
        if math.isfinite(value)
    ]


def _reporter(folder: Path) -> Report:
    """Signs of life in the folder, at most one every `PROGRESS_SECONDS`."""
    last = -math.inf

    def report(progress: Mapping[str, Any]) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            write_json(folder / "progress.json", progress)

    return report
