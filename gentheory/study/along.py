"""Checkpoints along training: a shard as it stood after each of the epochs asked for."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.study.part import MeasuresSection, held_out_name
from gentheory.study.plan import Shard
from gentheory.training.evaluate import Evaluation
from gentheory.training.loop import Trained
from gentheory.training.stack import Outcome

FIGURES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "gap", "gap_stderr")
TRAJECTORY = {
    "model": "varchar",
    "epoch": "integer",
    "outcome": "varchar",
    "steps": "integer",
    "training_time": "double",
    **dict.fromkeys(FIGURES, "double"),
    "clean_test_loss": "double",
    "validation_loss": "double",
}

Standing: TypeAlias = Outcome | Literal["training"]
"""What has become of a model by a checkpoint; "training" while it goes on."""


@dataclass(frozen=True)
class Stand:
    """A shard after an epoch."""

    epoch: int
    standing: tuple[Standing, ...]
    present: tuple[bool, ...]
    """Whether each model had not ended before."""
    trained: Trained
    """As if training had ended here. A model that had ended before counts as diverged."""

    def record(self, record: Mapping[str, Any], m: int) -> dict[str, Any]:
        """What the checkpoint's file says of model m, from what `trained` says of it."""
        own = {"epoch": self.epoch, "outcome": self.standing[m], "absent": not self.present[m]}
        return {**record, **own}


def stands(trained: Trained) -> Iterator[Stand]:
    """One for each checkpoint; none where none were asked for."""
    along = trained.snapshots
    for place, epoch in enumerate(along.epochs if along else ()):
        assert along is not None
        present = along.present[place].tolist()
        yield Stand(
            epoch,
            _standing(trained, epoch),
            tuple(present),
            replace(
                trained,
                theta=along.theta[place],
                outcomes=tuple("finished" if here else "diverged" for here in present),
                steps=along.steps[place],
                training_time=along.training_time[place],
                curve=trained.curve[: epoch + 1],
                trajectory=along.trajectories.get(epoch),
                statistics={name: each[place] for name, each in along.statistics.items()},
                snapshots=None,
            ),
        )


def measured_along(shard: Shard) -> Shard | None:
    """The shard with the measures that are taken at its checkpoints; None without any."""
    measures = MeasuresSection(**shard.measures)
    if not measures.along:
        return None
    names = [name for name in measures.names if name in measures.along]
    held = [name for name in measures.on_held_out if held_out_name(name) in measures.along]
    chosen = MeasuresSection(
        names=names,
        dtype=measures.dtype,
        options={n: given for n, given in measures.options.items() if n in [*names, *held]},
        examples=measures.examples,
        held_out=measures.held_out if held else None,
        on_held_out=held,
    )
    return replace(shard, measures=chosen.model_dump())


def trajectory_rows(
    shard: Shard,
    stand: Stand,
    figures: Evaluation,
    clean: Evaluation,
    validation: Float[Tensor, " M"] | None,
) -> list[dict[str, Any]]:
    """One row a model; a model that had ended before has no numbers."""
    rows: list[dict[str, Any]] = []
    for m, point in enumerate(shard.points):
        row = {"model": point.id, "epoch": stand.epoch, "outcome": stand.standing[m]}
        if stand.present[m]:
            row |= {name: float(getattr(figures, name)[m]) for name in FIGURES}
            row["steps"] = int(stand.trained.steps[m])
            row["training_time"] = float(stand.trained.training_time[m])
            row["clean_test_loss"] = float(clean.test_loss[m])
            row["validation_loss"] = math.nan if validation is None else float(validation[m])
        rows.append(row)
    return rows


def _standing(trained: Trained, epoch: int) -> tuple[Standing, ...]:
    """A model goes on up to the last epoch of known loss, which a diverging one outlives."""
    last = torch.isfinite(trained.curve).sum(0) - 1
    return tuple(
        "training" if epoch < end + (outcome == "diverged") else outcome
        for end, outcome in zip(last.tolist(), trained.outcomes, strict=True)
    )
