"""The work of one shard: build a stack of models, train it, evaluate it, measure each."""

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory import checkpoint
from gentheory.data.recipe import Recipe
from gentheory.data.split import Split
from gentheory.measures import table_row
from gentheory.params import Layout
from gentheory.study.alone import costs_alone
from gentheory.study.along import TRAJECTORY, measured_along, stands, trajectory_rows
from gentheory.study.conditions import loss_options, objective_decay
from gentheory.study.files import write_json, write_table
from gentheory.study.job import Job
from gentheory.study.measuring import measured
from gentheory.study.plan import Point, Shard
from gentheory.study.rivals import train_rivals
from gentheory.study.settings import plain_types
from gentheory.study.store import Store
from gentheory.training.evaluate import Evaluation, evaluate, mean_losses
from gentheory.training.loop import Trained

ALONG = "along training"
"""What measuring at checkpoints is called in the table of costs."""
PROGRESS_SECONDS = 0.5
"""Least time between two signs of life of a shard in flight."""

_SQL = {str: "varchar", float: "double", int: "bigint", bool: "boolean"}
_MODELS = {
    "model": "varchar",
    "shard": "varchar",
    "position": "integer",
    "part": "integer",
    "data": "varchar",
    "architecture": "varchar",
    "family": "varchar",
    "options": "varchar",
    **{name: _SQL[kind] for name, kind in plain_types().items()},
    "draw": "integer",
    "outcome": "varchar",
    "steps": "integer",
    "training_time": "double",
    "num_parameters": "integer",
    "n_test": "bigint",
    "train_loss": "double",
    "test_loss": "double",
    "clean_test_loss": "double",
    "train_accuracy": "double",
    "test_accuracy": "double",
    "shifted_loss": "double",
    "shifted_accuracy": "double",
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
_ALONG = {"model": "varchar", "epoch": "integer", **_MEASURES}
_CURVES = {"model": "varchar", "epoch": "integer", "train_loss": "double"}
_COSTS = {"model": "varchar", "what": "varchar", "seconds": "double"}

Report = Callable[[Mapping[str, Any]], None]


def run_shard(
    store: Store,
    shard: Shard,
    *,
    piece_of: str | None = None,
    nonce: str | None = None,
    guard: Callable[[Path], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Train and measure the shard, and commit it, unless another runner has done so by now.

    A model that diverges or a measure that fails is a row with its reason; only what stops the
    whole shard raises. It may be a piece of a planned shard. The work is done under `guard`,
    which is told the private folder, whose name ends in the nonce.
    """
    place = store if piece_of is None else store.pieces(piece_of)
    if place.is_done(shard.id):
        return
    torch.set_num_threads(shard.threads)
    piece = None if piece_of is None else shard.id
    with (
        store.writing(piece_of or shard.id, nonce=nonce, piece=piece) as folder,
        guard(folder),
    ):
        work(shard, folder, _reporter(folder))


def work(shard: Shard, folder: Path, report: Report) -> None:
    """Write the shard's tables and weights into the folder."""
    points, recipe = shard.points, Recipe(**shard.points[0].data)

    def progress(share: float) -> None:
        report({"trained": share, "measured": 0})

    job, start = Job.of(points), time.perf_counter()
    trained = job.train(checkpoints=shard.checkpoints["epochs"], progress=progress)
    seconds = (time.perf_counter() - start) / len(points)
    rivals = train_rivals(job, shard.rivals, seed=recipe.seed, progress=progress)
    figures, clean = _tested(job, trained, recipe)
    unseen = recipe.shifted_test()
    shifted = None if unseen is None else _evaluated(job, trained, unseen)
    records = [_record(point, trained, m) for m, point in enumerate(points)]
    _save(folder / "weights.safetensors", job, trained, records)
    costs: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    each = measured(job, shard, trained, records)
    for m, (point, (found, took)) in enumerate(zip(points, each, strict=True), 1):
        found = {rival.name: rival.estimates[m - 1] for rival in rivals} | found
        took = {"training": seconds, **{rival.name: rival.seconds for rival in rivals}} | took
        rows += [{"model": point.id, **table_row(n, e)} for n, e in found.items()]
        costs += [{"model": point.id, "what": n, "seconds": s} for n, s in took.items()]
        report({"trained": 1.0, "measured": m})
    if shard.checkpoints["epochs"]:
        costs += _work_along(job, shard, trained, folder, report)
    if shard.measures["alone"]:
        costs += costs_alone(job, shard, trained, records)
    models = _model_rows(shard, trained, figures, clean, shifted)
    write_table(folder / "models.parquet", models, _MODELS)
    write_table(folder / "measures.parquet", rows, _MEASURES)
    write_table(folder / "curves.parquet", _curve_rows(points, trained), _CURVES)
    write_table(folder / "costs.parquet", costs, _COSTS)


def _tested(
    job: Job, trained: Trained, recipe: Recipe, count: int | None = None
) -> tuple[Evaluation, Evaluation]:
    """On the first test data with the training data's label noise, and without."""

    def on(test: Split) -> Evaluation:
        return _evaluated(job, trained, test.take(torch.arange(count)) if count else test)

    figures = on(recipe.test())
    return figures, on(recipe.clean_test()) if recipe.label_noise > 0 else figures


def _work_along(
    job: Job, shard: Shard, trained: Trained, folder: Path, report: Report
) -> list[dict[str, Any]]:
    """Evaluate, keep and measure the checkpoints along training; what the measures cost."""
    recipe, along = Recipe(**shard.points[0].data), measured_along(shard)
    count = shard.checkpoints["validation"]
    held = None if count is None else recipe.following(count)
    trajectory: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    seconds = dict.fromkeys((point.id for point in shard.points), 0.0)
    for stand in stands(trained):
        figures = _tested(job, stand.trained, recipe, shard.checkpoints["test"])
        unseen = _validated(job, stand.trained, held) if held else None
        trajectory += trajectory_rows(shard, stand, *figures, unseen)
        records = [
            stand.record(_record(point, stand.trained, m), m)
            for m, point in enumerate(shard.points)
        ]
        if shard.checkpoints["keep"]:
            _save(folder / f"weights.{stand.epoch}.safetensors", job, stand.trained, records)
        if along is None:
            continue
        each = measured(job, along, stand.trained, records)
        for record, (found, took) in zip(records, each, strict=True):
            seconds[record["id"]] += sum(took.values())
            if not record["absent"]:
                own = {"model": record["id"], "epoch": stand.epoch}
                rows += [{**own, **table_row(n, e)} for n, e in found.items()]
            report({"trained": 1.0, "measured": len(records)})
    write_table(folder / "trajectory.parquet", trajectory, TRAJECTORY)
    write_table(folder / "measures_along.parquet", rows, _ALONG)
    return [{"model": m, "what": ALONG, "seconds": s} for m, s in seconds.items()]


def _save(path: Path, job: Job, trained: Trained, records: list[dict[str, Any]]) -> None:
    checkpoint.save(
        path,
        trained.theta,
        job.initial,
        layout=Layout.of(job.module),
        records=records,
        trajectory=trained.trajectory,
        statistics=trained.statistics,
    )


def _evaluated(job: Job, trained: Trained, test: Split) -> Evaluation:
    return evaluate(
        job.module, job.loss, trained.theta, job.data, test, statistics=trained.statistics
    )


def _validated(job: Job, trained: Trained, held: Split) -> Float[Tensor, " M"]:
    examples, statistics = (held.inputs, held.targets), trained.statistics
    return mean_losses(job.module, job.loss, trained.theta, *examples, statistics=statistics)


def _record(point: Point, trained: Trained, m: int) -> dict[str, Any]:
    """What the checkpoint's file says of this model."""
    return {
        "id": point.id,
        "architecture": point.architecture,
        "model": dict(point.model),
        "data": dict(point.data),
        "loss": point.settings["loss"],
        "loss_options": loss_options(point.settings),
        "weight_decay": objective_decay(point.settings),
        "settings": dict(point.settings),
        "outcome": trained.outcomes[m],
        "steps": int(trained.steps[m]),
        "training_time": float(trained.training_time[m]),
    }


def _model_rows(
    shard: Shard,
    trained: Trained,
    figures: Evaluation,
    clean: Evaluation,
    shifted: Evaluation | None,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for m in range(len(shard.points)):
        diverged = trained.outcomes[m] == "diverged"
        names = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "gap", "gap_stderr")
        # The parameters are those of the last good epoch: not what this training led to.
        found = {n: float(getattr(figures, n)[m]) for n in names}
        found["clean_test_loss"] = float(clean.test_loss[m])
        found["shifted_loss"] = float(shifted.test_loss[m]) if shifted else math.nan
        found["shifted_accuracy"] = float(shifted.test_accuracy[m]) if shifted else math.nan
        measured = dict.fromkeys(found, math.nan) if diverged else found
        rows.append(
            {
                **untrained_row(shard, m),
                "outcome": trained.outcomes[m],
                "steps": int(trained.steps[m]),
                "training_time": float(trained.training_time[m]),
                "n_test": figures.num_test,
                **measured,
            }
        )
    return rows


def untrained_row(shard: Shard, m: int) -> dict[str, Any]:
    """What the table of models says of model m before it is trained."""
    point = shard.points[m]
    return {
        **point.settings,
        "model": point.id,
        "shard": shard.id,
        "position": m,
        "part": point.part,
        "data": Recipe(**point.data).label,
        "architecture": point.architecture,
        "family": point.family,
        "options": json.dumps(point.model["options"], sort_keys=True),
        "n_train": point.data["n_train"],
        "draw": point.draw,
        "num_parameters": point.model["num_params"],
    }


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
