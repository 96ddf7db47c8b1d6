"""Measuring the models of a stack: what is the same for all is computed in one pass."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from gentheory.checkpoint import Checkpoint
from gentheory.data.recipe import Recipe
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.factors.stacked import prepare
from gentheory.measures import Results, measure
from gentheory.models.norm import with_statistics
from gentheory.risk import EmpiricalRisk
from gentheory.seeds import seed_of
from gentheory.study.job import Job
from gentheory.study.part import MeasuresSection, held_out_name
from gentheory.study.plan import Shard
from gentheory.training.loop import Trained

_DIVERGED = Estimate.missing("refused", "the model's training diverged")

Records = Sequence[Mapping[str, Any]]
"""What the checkpoint's file says of each model."""


def measured(
    job: Job, shard: Shard, trained: Trained, records: Records
) -> Iterator[tuple[dict[str, Estimate], dict[str, float]]]:
    """Each model's estimates by row, and the seconds they took."""
    measures, everyone = MeasuresSection(**shard.measures), range(len(records))
    stacks = {"": trained_on(job, measures, trained, records, everyone)}
    if measures.held_out:
        held_out = Recipe(**shard.points[0].data).held_out(measures.held_out)
        stacks["held-out"] = _subjects(job, trained, records, everyone, measures.dtype, held_out)
    start = time.perf_counter()
    for stack in stacks.values():
        # What is wrong with the data or the model, each measure says itself.
        with suppress(InputError, RuntimeError):
            prepare([subject.risk for subject in stack.values()])
    shared = (time.perf_counter() - start) / len(records)
    for m, point in enumerate(shard.points):
        if m not in stacks[""]:
            yield dict.fromkeys(measures.rows(), _DIVERGED), {}
            continue
        subjects = {name: stack.pop(m) for name, stack in stacks.items()}  # and free memory
        results = list(_results(subjects, seed_of(point.id), measures))
        yield (
            {name: estimate for part in results for name, estimate in part.items()},
            {"passes of the stack": shared}
            | {name: seconds for part in results for name, seconds in part.seconds.items()},
        )


def trained_on(
    job: Job, measures: MeasuresSection, trained: Trained, records: Records, models: Iterable[int]
) -> dict[int, Checkpoint]:
    """Those of these models that did not diverge, on the training examples that are looked at."""
    count = measures.examples or len(job.data)
    data = job.data if count == len(job.data) else job.data.take(torch.arange(count))
    kept = trained.trajectory
    found = _subjects(job, trained, records, models, measures.dtype, data)
    if kept is None:
        return found
    return {
        m: replace(subject, trajectory=kept[m].of_first(count).to(subject.risk.theta))
        for m, subject in found.items()
    }


def _subjects(
    job: Job,
    trained: Trained,
    records: Records,
    models: Iterable[int],
    dtype: str,
    data: Split,
) -> dict[int, Checkpoint]:
    """The models that did not diverge, on these data; they share all but their parameters."""
    found: dict[int, Checkpoint] = {}
    first: EmpiricalRisk | None = None
    for m in models:
        if trained.outcomes[m] == "diverged":
            continue
        if first is None or trained.statistics:
            module = with_statistics(job.module, {n: s[m] for n, s in trained.statistics.items()})
            first = EmpiricalRisk(module, job.loss, data, dtype=getattr(torch, dtype))
        risk = first.at(trained.theta[m], weight_decay=records[m]["weight_decay"])
        found[m] = Checkpoint(
            risk,
            job.initial[m].to(risk.theta),
            records[m]["steps"],
            records[m]["training_time"],
            record=records[m],
            num_train=None if data is job.data else len(job.data),
        )
    return found


def _results(
    subjects: Mapping[str, Checkpoint], seed: int, measures: MeasuresSection
) -> Iterator[Results]:
    """On the training examples and, if there are any, on the held-out ones."""
    own = {name: measures.options.get(name, {}) for name in measures.names}
    yield measure(subjects[""], own, seed=seed, options=own, strict=False)
    if "held-out" in subjects:
        others = {held_out_name(n): measures.options.get(n, {}) for n in measures.on_held_out}
        yield measure(subjects["held-out"], others, seed=seed, options=others, strict=False)
