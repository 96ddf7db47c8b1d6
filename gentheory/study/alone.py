"""What one model takes by itself, by this machine's clock: a stack shares its passes.

Rows of the table of costs, `NAME alone`, of the first model of a stack that did not diverge: each
measure with all the passes that it needs, as if no other had been taken; an epoch of training,
and what keeping the trajectory adds to it; the mean loss of the training and of the validation
examples.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gentheory.data.recipe import Recipe
from gentheory.data.split import Split
from gentheory.measures import measure
from gentheory.study.job import Job
from gentheory.study.measuring import Records, trained_on
from gentheory.study.part import MeasuresSection
from gentheory.study.plan import Point, Shard
from gentheory.training.evaluate import mean_losses
from gentheory.training.loop import Trained

ALONE = " alone"
"""What the names of these rows end in."""
TRAINING, KEEPING = "training", "keeping the trajectory"
TRAINING_LOSS, VALIDATION = "training loss", "validation"
"""The names of those that are no measures."""
_EPOCHS = 3
"""Of training, of which the first is set-up's and not counted."""


def costs_alone(job: Job, shard: Shard, trained: Trained, records: Records) -> list[dict[str, Any]]:
    """Seconds of one model on the training examples; none where every model diverged."""
    measures = MeasuresSection(**shard.measures)
    m = next((m for m, end in enumerate(trained.outcomes) if end != "diverged"), None)
    if m is None:
        return []
    point, count = shard.points[m], shard.checkpoints["validation"]
    took = {
        **_measures(job, measures, trained, records, m),
        **_training(point),
        TRAINING_LOSS: _loss(job, trained, m, job.data),
    }
    if count is not None:
        took[VALIDATION] = _loss(job, trained, m, Recipe(**point.data).following(count))
    return [{"model": point.id, "what": n + ALONE, "seconds": s} for n, s in took.items()]


def _measures(
    job: Job, measures: MeasuresSection, trained: Trained, records: Records, m: int
) -> Mapping[str, float]:
    subject = trained_on(job, measures, trained, records, [m])[m]
    found: dict[str, float] = {}
    for name in measures.names:
        own = {name: measures.options.get(name, {})}
        fresh = replace(subject, risk=subject.risk.at(subject.risk.theta))
        found |= measure(fresh, own, options=own, strict=False).seconds
    return found


def _training(point: Point) -> dict[str, float]:
    """Of an epoch, the look at the training loss after it with it."""
    plain, kept = (_epoch(point, keep) for keep in (False, True))
    return {TRAINING: plain, KEEPING: max(0.0, kept - plain)}


def _epoch(point: Point, keep: bool) -> float:
    def train(epochs: int) -> Callable[[], object]:
        settings = {**point.settings, "keep_trajectory": keep, "pof_epochs": 0, "warm_up": 0}
        return Job.of((replace(point, settings={**settings, "epochs": epochs}),)).train

    return max(0.0, _seconds(train(_EPOCHS)) - _seconds(train(1))) / (_EPOCHS - 1)


def _loss(job: Job, trained: Trained, m: int, data: Split) -> float:
    statistics = {name: each[m : m + 1] for name, each in trained.statistics.items()}
    theta, examples = trained.theta[m : m + 1], (data.inputs, data.targets)
    return _seconds(
        lambda: mean_losses(job.module, job.loss, theta, *examples, statistics=statistics)
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
