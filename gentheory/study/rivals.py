"""What a user would do instead of measuring: hold examples out, train on the rest, and look.

A rival's number is the mean loss of the held-out examples under the model that did not see them.
"validation:s" holds the share s out once; "cross_validation:k" holds out each of k folds in turn
(Stone 1974). Every training has the settings, the initial parameters and the stream of batch
orders of the model it stands for. The examples are shuffled by the study's seed and their number
alone, so all models of a study are judged on the same split.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gentheory.estimate import Estimate
from gentheory.seeds import generator
from gentheory.study.job import Job
from gentheory.study.plan import Stretch, held_out_parts
from gentheory.training.evaluate import example_losses
from gentheory.training.stack import Outcome


@dataclass(frozen=True)
class Rival:
    """One rival of every model of a stack."""

    name: str
    estimates: tuple[Estimate, ...]
    """Mean held-out losses; `stderr` covers the draw of the held-out examples, not the training."""
    seconds: float
    """Of its trainings, for each model."""


@dataclass(frozen=True)
class _Held:
    """The models of a stack that did not see one part of the examples."""

    losses: Float[Tensor, "M N"]  # of the examples of the part
    outcomes: tuple[Outcome, ...]
    seconds: float  # for each model


def train_rivals(
    job: Job,
    wanted: Mapping[str, Any],
    *,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> list[Rival]:
    """The rivals that the study's `[rivals]` names, for every model of the job.

    Parts of equal size are trained as one stack, and a part that two rivals share but once. A
    training that diverges leaves an estimate with the status `failed` and the reason. `progress`
    is called after each epoch with the share of the epochs of one stack.
    """
    rivals, count = held_out_parts(wanted, len(job.data)), len(job.data)
    shuffled = torch.randperm(count, generator=generator(seed, "held out", count))
    by_size: defaultdict[int, list[Stretch]] = defaultdict(list)
    for part in dict.fromkeys(part for parts in rivals.values() for part in parts):
        by_size[part[1] - part[0]].append(part)
    held: dict[Stretch, _Held] = {}
    for parts in by_size.values():
        held |= _train(job, parts, shuffled, progress)
    return [_rival(name, [held[part] for part in parts]) for name, parts in rivals.items()]


def _train(
    job: Job,
    parts: list[Stretch],
    shuffled: Int[Tensor, " N"],
    progress: Callable[[float], None] | None,
) -> dict[Stretch, _Held]:
    """Parts of one size, each left out of M trainings, all in one stack."""
    count, data, start = len(job.initial), job.data, time.perf_counter()
    seen = _rows([torch.cat([shuffled[:a], shuffled[b:]]) for a, b in parts], count)
    unseen = _rows([shuffled[a:b] for a, b in parts], count)
    trained = job.repeated(len(parts)).train(rows=seen, progress=progress)
    losses, _ = example_losses(
        job.module,
        job.loss,
        trained.theta,
        data.inputs,
        data.targets,
        unseen,
        statistics=trained.statistics,
    )
    seconds = (time.perf_counter() - start) / len(losses)
    stacks = [slice(place * count, (place + 1) * count) for place in range(len(parts))]
    return {
        part: _Held(losses[own], trained.outcomes[own], seconds)
        for part, own in zip(parts, stacks, strict=True)
    }


def _rows(indices: list[Tensor], count: int) -> Int[Tensor, "M N"]:
    """The same examples for `count` models, part after part; in the data's own order."""
    return torch.stack(indices).sort(dim=1).values.repeat_interleave(count, dim=0)


def _rival(name: str, held: list[_Held]) -> Rival:
    losses = torch.cat([part.losses for part in held], dim=1)
    outcomes = zip(*(part.outcomes for part in held), strict=True)
    estimates = map(_estimate, losses, outcomes)
    return Rival(name, tuple(estimates), sum(part.seconds for part in held))


def _estimate(losses: Float[Tensor, " N"], outcomes: tuple[Outcome, ...]) -> Estimate:
    lost = outcomes.count("diverged")
    if lost:
        reason = f"{lost} of {len(outcomes)} trainings diverged" if len(outcomes) > 1 else ""
        return Estimate.missing("failed", reason or "the training on the rest diverged")
    if not math.isfinite(float(losses.mean())):
        return Estimate.missing("failed", "a held-out loss is not finite")
    return Estimate.from_samples(losses)
