"""All signals under all pruners over many orders, in several processes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

import numpy as np
import torch

from gentheory.errors import InputError
from gentheory.pruner_benchmark.arms import (
    ORACLE,
    RANDOM,
    REFITTED,
    Arm,
    View,
    arms,
    draw_order,
)
from gentheory.pruner_benchmark.bases import BASES, LOOKING_AT_RUNGS
from gentheory.pruner_benchmark.curves import Array, Curves, Table
from gentheory.pruner_benchmark.ranking import Tau, taus
from gentheory.pruner_benchmark.regret import Truth, scores
from gentheory.pruner_benchmark.replay import quiet, replay


@dataclass(frozen=True)
class Design:
    """What is replayed. Every arm meets the same orders."""

    orders: int = 100
    trials: int = 64
    """Configurations that an order draws; all of them where there are fewer."""
    workers: tuple[int, ...] = (1, 4, 16)
    """Every pruner with the first number, those that look at rungs alone with the others."""
    charged: bool = True
    """Whether looks at a signal cost; without, what a signal is worth were it free."""
    resamples: int = 1000
    """Of the bootstrap."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("orders", 2), ("trials", 3), ("resamples", 2)):
            if getattr(self, name) < least:
                found, expected = str(getattr(self, name)), f"at least {least}"
                raise InputError(name, found, expected, f"give {least} or more")

    def runs(self) -> list["Run"]:
        """Every pruner with every number of workers that it is replayed with."""
        first, *others = self.workers
        return [Run(base, first) for base in BASES] + [
            Run(base, workers) for workers in others for base in LOOKING_AT_RUNGS
        ]


@dataclass(frozen=True)
class Run:
    """A pruner, and how many simulated workers run its trials."""

    base: str
    workers: int


Scores = Mapping[str, Array]
"""Numbers of `regret.scores`, one a replayed order: shape [orders] or [orders, budgets]."""


@dataclass(frozen=True)
class Played:
    """One arm in one setting."""

    scores: Mapping[Run, Scores]
    taus: list[Tau]


@dataclass(frozen=True)
class Outcome:
    """Everything that was replayed."""

    design: Design
    tables: Mapping[str, Table]
    """By setting."""
    played: dict[tuple[str, Arm], Played] = field(default_factory=dict[tuple[str, Arm], Played])

    def arms(self, setting: str) -> list[Arm]:
        """Of a setting, the reference first."""
        return [arm for name, arm in self.played if name == setting]


def bench(
    curves: Curves,
    design: Design,
    *,
    processes: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> Outcome:
    """Replay every arm in every setting; the same numbers whatever the number of processes.

    `progress` is told how many of all pieces are done, and of which setting the last one was.
    """
    tables = {table.setting: table for table in curves.tables()}
    pieces = [(name, arm) for name, t in tables.items() for arm in arms(t, curves.criteria)]
    outcome = Outcome(design, tables)
    found: dict[tuple[str, Arm], Played] = {}
    results = _spread(((tables[name], arm, design) for name, arm in pieces), processes)
    for count, (setting, arm, played) in enumerate(results, 1):
        found[setting, arm] = played
        if progress is not None:
            progress(count, len(pieces), setting)
    outcome.played.update({piece: found[piece] for piece in pieces})
    return outcome


Piece = tuple[Table, Arm, Design]


def _spread(pieces: Iterable[Piece], processes: int) -> Iterator[tuple[str, Arm, Played]]:
    """Pieces as they get done."""
    if processes == 1:
        yield from map(_piece, pieces)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, torch.set_num_threads, (1,)) as pool:
        for done in as_completed([pool.submit(_piece, piece) for piece in pieces]):
            yield done.result()


def _piece(piece: Piece) -> tuple[str, Arm, Played]:
    table, arm, design = piece
    return table.setting, arm, play(table, arm, design)


def play(table: Table, arm: Arm, design: Design) -> Played:
    """One arm in one setting: its replays over all orders, and how it ranks the models."""
    view = View(table, arm, seed=design.seed, charged=design.charged)
    rows: dict[Run, list[Mapping[str, float | Array]]] = {run: [] for run in design.runs()}
    with quiet():
        for number in range(design.orders):
            order = draw_order(table, number, trials=design.trials, seed=design.seed)
            seen, truth = view.along(order), Truth.of(table, arm, order)
            for run, found in rows.items():
                done = replay(seen, run.base, workers=run.workers, name=f"order {number}")
                found.append(scores(seen, done, truth))
    played = {
        run: {name: np.array([row[name] for row in found]) for name in found[0]}
        for run, found in rows.items()
    }
    ranked = arm.signal not in (REFITTED, RANDOM, ORACLE)
    found = taus(table, arm, resamples=design.resamples, seed=design.seed) if ranked else []
    return Played(played, found)
