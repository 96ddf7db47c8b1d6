"""How well a signal ranks the models of a setting by their final test loss, epoch by epoch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gentheory.pruner_benchmark.arms import REFERENCE, TRAINING, VALIDATION, Arm, values
from gentheory.pruner_benchmark.curves import Array, Table
from gentheory.pruner_benchmark.regret import TARGETS
from gentheory.report.resampled import Resampled, Samples, difference
from gentheory.seeds import seed_of
from gentheory.stats.rank import MIN_ROWS

RUNGS = (1, 3, 9, 27)
"""Epochs at which halving by three looks."""
RIVALS = (VALIDATION, TRAINING)
"""What every arm is compared with, the training loss on the same data as the arm."""


@dataclass(frozen=True)
class Tau:
    """Kendall's tau with a final target, and less that of the rivals on the same models."""

    epoch: int
    target: str
    count: int
    """Models with a finite signal of the arm and of its rivals, trained to the end."""
    kendall: Samples
    """The value, and its values on resamples of configurations, [K]."""
    leads: Mapping[str, Samples]
    """By rival: the validation loss, and the training loss on the same data as the arm."""


def rivals(arm: Arm) -> dict[str, Arm]:
    """What an arm is compared with, by name; never itself."""
    known = {VALIDATION: REFERENCE, TRAINING: Arm(TRAINING, arm.data)}
    return {name: rival for name, rival in known.items() if rival != arm}


def taus(table: Table, arm: Arm, *, resamples: int, seed: int) -> list[Tau]:
    """At every epoch with the final test loss, at the rungs with the final test error too.

    Each model is compared with its own target, so an arm on all data is held to the test loss of
    models that were trained on all data. Whole configurations are drawn, with all their seeds.
    Epochs after which fewer than three models have the signals are left out.
    """
    others = rivals(arm)
    clusters = np.broadcast_to(np.arange(len(table.configs))[:, None], table.present.shape)
    found: list[Tau] = []
    for epoch in range(1, table.horizon + 1):
        targets = TARGETS if epoch in (*RUNGS, table.horizon) else TARGETS[:1]
        columns = _columns(table, {"own": arm, **others}, epoch - 1, targets)
        usable = np.all([np.isfinite(column) for column in columns.values()], axis=0)
        if usable.sum() < MIN_ROWS:
            continue
        kept = {name: column[usable] for name, column in columns.items()}
        drawn = Resampled(
            kept,
            clusters=clusters[usable],
            num_resamples=resamples,
            seed=seed_of(seed, "tau", table.setting),
        )
        for target in targets:
            own = drawn.kendall("own", f"own {target}")
            leads = {n: difference(own, drawn.kendall(n, f"{n} {target}")) for n in others}
            found.append(Tau(epoch, target, int(usable.sum()), own, leads))
    return found


def _columns(
    table: Table, shown: Mapping[str, Arm], place: int, targets: tuple[str, ...]
) -> dict[str, Array]:
    """Signals at one epoch and final targets, by name, each [n, S]."""
    signals = {name: values(table, arm)[:, :, place] for name, arm in shown.items()}
    finals = {
        f"{name} {target}": table.columns[arm.data][target][:, :, -1]
        for name, arm in shown.items()
        for target in targets
    }
    return signals | finals
