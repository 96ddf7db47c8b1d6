"""What a study will take, predicted from a short trial of each kind of its models."""

import math
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import duckdb
import torch

from gentheory.study.alone import ALONE
from gentheory.study.job import Job
from gentheory.study.plan import Point, Shard, held_out_parts
from gentheory.study.settings import VARIED
from gentheory.study.shard import ALONG, work

STEPS = 8
"""Steps of training that are timed."""
MEASURED = 2
"""Models of a stack that are measured."""
_ROW_BYTES = 12
"""Of a table's row in a compressed Parquet file, for each epoch's training loss."""


@dataclass
class Kind:
    """Models that differ in what takes no time: in their seeds, rates and label noise."""

    example: Shard
    """The first of its shards, which stands for all."""
    models: int = 0
    shards: int = 0
    epochs: int = 0
    """Of all models together."""
    trainings: int = 0
    """More trainings of each model, for its rivals."""

    @property
    def point(self) -> Point:
        """The first of its models."""
        return self.example.points[0]

    @property
    def steps(self) -> int:
        """Of one model in one epoch."""
        return math.ceil(self.point.data["n_train"] / self.point.settings["batch_size"])

    @property
    def arithmetic(self) -> float:
        """Of one step of one model, in numbers that grow with its cost."""
        return self.point.model["num_params"] * self.point.settings["batch_size"]

    @property
    def size(self) -> float:
        """Of one model and its data, which the cost of most measures grows with."""
        return self.point.model["num_params"] * self.point.data["n_train"]


@dataclass(frozen=True)
class Cost:
    """What one kind of models takes."""

    step: float
    """Seconds of one step of one model in its stack."""
    measuring: float
    """Seconds of all measures of one model."""
    shard: float
    """Seconds a shard takes beside training and measuring."""
    model_bytes: float
    shard_bytes: float


@dataclass(frozen=True)
class Prediction:
    """Seconds of one worker, and bytes, by kind; `tried` tells which were tried."""

    kinds: tuple[Kind, ...]
    costs: tuple[Cost, ...]
    tried: tuple[bool, ...]
    parts: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds of one worker for training, rivals, measures and the rest."""

    def seconds(self, workers: int) -> float:
        """For so many workers that are never idle, but for the last shard of each."""
        shards = sum(kind.shards for kind in self.kinds)
        rounds = math.ceil(shards / workers) / shards if shards else 0.0
        return sum(self.parts.values()) * rounds

    @property
    def bytes(self) -> float:
        """On the disk."""
        return sum(
            kind.models * cost.model_bytes
            + kind.shards * cost.shard_bytes
            + kind.epochs * _ROW_BYTES
            for kind, cost in zip(self.kinds, self.costs, strict=True)
        )


def kinds(shards: Iterable[Shard]) -> list[Kind]:
    """The kinds of models in these shards, in their order."""
    found: dict[tuple[Any, ...], Kind] = {}
    for shard in shards:
        first = shard.points[0]
        same = (n for n in VARIED if n not in ("epochs", "label_noise", "stop_at_loss"))
        key = (first.part, first.architecture, *map(first.settings.__getitem__, same))
        kind = found.setdefault(key, Kind(shard))
        kind.models += len(shard.points)
        kind.shards += 1
        kind.epochs += len(shard.points) * first.settings["epochs"]
        if len(shard.points) > len(kind.example.points):
            kind.example = shard
    for kind in found.values():
        parts = held_out_parts(kind.example.rivals, kind.point.data["n_train"])
        kind.trainings = sum(map(len, parts.values()))
    return list(found.values())


def predict(
    found: list[Kind], *, seconds: float = 180.0, progress: Callable[[str], None] | None = None
) -> Prediction:
    """Try the kinds for about so many seconds: one of each architecture in each part first, and
    small models on few data before large ones on many.

    Those that were not tried are taken to cost what the largest that were of the same part do, in
    training by their arithmetic. `progress` is called before each trial. A model that stops early
    takes less than predicted. Nothing is kept.
    """
    end, costs = time.monotonic() + seconds, dict[int, Cost]()
    by_size = sorted(range(len(found)), key=lambda k: found[k].size)
    smallest = {(found[k].point.part, found[k].point.family): k for k in reversed(by_size)}
    order = list(dict.fromkeys([*sorted(smallest.values(), key=by_size.index), *by_size]))
    for place in order:
        if costs and time.monotonic() > end:
            break
        if progress is not None:
            progress(found[place].point.architecture)
        if not costs:
            try_out(found[place].example)  # loads and traces what later trials find ready
        costs[place] = try_out(found[place].example)
    whole = tuple(costs.get(place) or _alike(found, costs, place) for place in range(len(found)))
    tried = tuple(place in costs for place in range(len(found)))
    return Prediction(tuple(found), whole, tried, _parts(found, whole))


def try_out(shard: Shard) -> Cost:
    """Train a whole stack for a few steps, and measure a few models after as many."""
    torch.set_num_threads(shard.threads)
    points = tuple(map(_short, shard.points))
    steps = math.ceil(points[0].data["n_train"] / points[0].settings["batch_size"])
    job = Job.of(points)
    job.train()
    start = time.perf_counter()
    job.train()
    step = (time.perf_counter() - start) / steps / len(points)
    along = shard.checkpoints["epochs"]
    few = replace(
        shard,
        points=tuple(map(_once, shard.points[:MEASURED])),
        checkpoints={**shard.checkpoints, "epochs": [1] if along else []},
    )
    with tempfile.TemporaryDirectory(prefix="gentheory-") as scratch:
        folder, start = Path(scratch), time.perf_counter()
        work(few, folder, lambda _: None)
        total = time.perf_counter() - start
        spent = _seconds(folder / "costs.parquet")
        sizes = {file.suffix: 0 for file in folder.iterdir()}
        for file in folder.iterdir():
            sizes[file.suffix] += file.stat().st_size
    trained = spent.pop("training") + sum(
        spent.pop(name)
        for name in [*spent]
        if name.split(":")[0] in ("validation", "cross_validation")
    )
    # Of one model a shard: of what the shard takes beside.
    spent = {name: took for name, took in spent.items() if not name.endswith(ALONE)}
    spent[ALONG] = spent.get(ALONG, 0.0) * len(along)
    measuring = sum(spent.values())
    return Cost(
        step,
        measuring / len(few.points),
        max(0.0, total - trained - measuring),
        sizes[".safetensors"] / len(few.points) * _more_files(shard) / _more_files(few),
        sizes[".parquet"],
    )


def _more_files(shard: Shard) -> int:
    """Files of weights: one at the end, and one a checkpoint that is kept."""
    return 1 + len(shard.checkpoints["epochs"]) * shard.checkpoints["keep"]


def _seconds(costs: Path) -> dict[str, float]:
    """What was spent on each row of the table of costs, for all models together."""
    with duckdb.connect() as connection:
        sql = "select what, sum(seconds) from read_parquet(?) group by what"
        return dict(connection.execute(sql, [str(costs)]).fetchall())


def _once(point: Point) -> Point:
    """The same model after one epoch."""
    return replace(point, settings={**point.settings, "epochs": 1})


def _short(point: Point) -> Point:
    """The same model after one epoch of few steps."""
    count = min(point.data["n_train"], STEPS * point.settings["batch_size"])
    return replace(_once(point), data={**point.data, "n_train": count})


def _alike(found: list[Kind], costs: dict[int, Cost], place: int) -> Cost:
    """The cost of a kind that was not tried: that of the largest tried ones.

    Those of its own part, which measures the same, and architecture; or else of its part; or of
    all.
    """
    own = found[place].point
    part = [k for k in costs if found[k].point.part == own.part]
    same = [k for k in part if found[k].point.architecture == own.architecture]
    known = sorted(same or part or costs, key=lambda k: found[k].size)[-3:]
    unit = fmean(costs[k].step / found[k].arithmetic for k in known)
    weight = fmean(costs[k].model_bytes / found[k].point.model["num_params"] for k in known)
    return Cost(
        unit * found[place].arithmetic,
        fmean(costs[k].measuring for k in known),
        fmean(costs[k].shard for k in known),
        weight * found[place].point.model["num_params"],
        fmean(costs[k].shard_bytes for k in known),
    )


def _parts(found: list[Kind], costs: tuple[Cost, ...]) -> dict[str, float]:
    pairs = list(zip(found, costs, strict=True))
    training = [kind.epochs * kind.steps * cost.step for kind, cost in pairs]
    return {
        "training": sum(training),
        "rivals": sum(t * kind.trainings for t, kind in zip(training, found, strict=True)),
        "measures": sum(kind.models * cost.measuring for kind, cost in pairs),
        "the rest": sum(kind.shards * cost.shard for kind, cost in pairs),
    }
