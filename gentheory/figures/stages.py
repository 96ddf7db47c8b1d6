"""A model at several times of its training: what a study keeps beside its weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gentheory.checkpoint import Checkpoint, load
from gentheory.errors import InputError
from gentheory.plots.along_training import Unit


@dataclass(frozen=True)
class Stage:
    """The model after some steps of the optimizer; its risk is on the same training examples."""

    steps: int
    epoch: int | None
    """Epochs completed by then; None where nobody counted them."""
    checkpoint: Checkpoint


def stages(final: Checkpoint, earlier: Sequence[Checkpoint] = ()) -> tuple[Stage, ...]:
    """The initial parameters, where they are known, the earlier checkpoints, and the final one.

    In the order of their steps, none twice; nothing where the final steps are not known. Nets with
    running statistics (BatchNorm) have no initial stage, for nobody kept the statistics' start.
    """
    if final.steps is None:
        return ()
    found = {c.steps: _stage(c) for c in (final, *earlier) if c.steps is not None}
    if final.initial is not None and not _has_statistics(final):
        start = replace(final, risk=final.risk.at(final.initial), steps=0, training_time=0.0)
        found.setdefault(0, Stage(0, 0, start))
    return tuple(found[steps] for steps in sorted(found) if steps <= final.steps)


def _has_statistics(checkpoint: Checkpoint) -> bool:
    parts = checkpoint.risk.module.modules()
    return any(getattr(part, "running_mean", None) is not None for part in parts)


def _stage(checkpoint: Checkpoint) -> Stage:
    assert checkpoint.steps is not None
    return Stage(checkpoint.steps, checkpoint.record.get("epoch"), checkpoint)


def kept(
    path: Path, index: int, final: Checkpoint, *, data: Any = None, dtype: torch.dtype | None = None
) -> list[Checkpoint]:
    """Model `index` of the files `weights.step-N.safetensors` beside this one, up to its end."""
    files = {
        int(f.stem.partition("-")[2]): f for f in path.parent.glob("weights.step-*.safetensors")
    }
    last = final.steps or 0
    return [
        load(files[step], index, data=data, dtype=dtype) for step in sorted(files) if step <= last
    ]


def times(found: Sequence[Stage], place: str) -> tuple[Unit, list[dict[str, int]]]:
    """What tells the stages apart, epochs where they all have one of their own, and that column.

    Raises `InputError` naming `place` for less than two stages.
    """
    if len(found) < 2:
        raise InputError(
            place,
            f"{len(found)} times in training",
            "at least 2",
            "name a checkpoint of a study, which keeps the initial parameters, or more of them",
        )
    epochs = [stage.epoch for stage in found]
    if None not in epochs and len(set(epochs)) == len(epochs):
        return "epoch", [{"epoch": epoch} for epoch in epochs if epoch is not None]
    return "steps", [{"steps": stage.steps} for stage in found]
