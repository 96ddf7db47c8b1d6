"""What a replayed study has to show for its budget: regret, false pruning, costs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gentheory.pruner_benchmark.arms import Arm, Candidates, Order
from gentheory.pruner_benchmark.curves import Array, Table
from gentheory.pruner_benchmark.replay import COMPLETE, Replay

TARGETS = ("test_loss", "test_error")
FRACTIONS = (0.1, 0.25, 0.5, 1.0)
"""Of the full budget, which is that of training every trial to the end on the training examples."""
BEST = (0.01, 0.1)
"""Shares of the trials that pruning should spare."""
GRID = np.geomspace(0.01, 1.0, 49)
"""Budgets of a curve, as fractions of the full one."""


@dataclass(frozen=True)
class Steps:
    """Regret as a function of the budget: a step down, or up, wherever the choice changes."""

    spent: Array
    """Budget at each change, rising, shape [k]."""
    regret: Array
    """From there on, shape [k]."""
    blind: float
    """Before the first trial was trained to its end."""

    def at(self, budget: Array) -> Array:
        """The regret with these budgets."""
        place = np.searchsorted(self.spent, budget, side="right")
        return np.concatenate([[self.blind], self.regret])[place]

    def area(self, low: float, high: float) -> float:
        """The mean over the logarithm of the budget from `low` to `high`, exact."""
        inside = self.spent[(self.spent > low) & (self.spent < high)]
        bounds = np.concatenate([[low], inside, [high]])
        lengths = np.diff(np.log(bounds))
        total = lengths.sum()
        heights = self.at(bounds[:-1])
        return float(lengths @ heights / total) if total else float(heights[0])


@dataclass(frozen=True)
class Truth:
    """What the trials of an order are worth, by target, on the test examples alone."""

    final: Mapping[str, Array]
    """After the whole training, on the arm's data; nan where the model diverged; shape [n]."""
    best: Mapping[str, float]
    """The least over these trials, whatever data they were trained on."""
    blind: Mapping[str, float]
    """The median over those on the training examples: nothing is known yet, so no arm is ahead."""

    @classmethod
    def of(cls, table: Table, arm: Arm, order: Order) -> "Truth":
        """Of the trials of an order, whose models are trained on the arm's final data.

        A choice that diverges when it is trained once more is kept as it was.
        """
        finals = {
            (kind, target): columns[target][order.configs, order.seeds, -1]
            for kind, columns in table.columns.items()
            for target in TARGETS
        }
        best = {
            target: min(_least(own) for (_, name), own in finals.items() if name == target)
            for target in TARGETS
        }
        blind = {target: _median(finals["training", target]) for target in TARGETS}
        own = {name: finals[arm.final_data, name] for name in TARGETS}
        before = {name: finals[arm.data, name] for name in TARGETS}
        final = {n: np.where(np.isfinite(own[n]), own[n], before[n]) for n in TARGETS}
        return cls(final, best, blind)


def _least(column: Array) -> float:
    return float(column[np.isfinite(column)].min(initial=np.inf))


def _median(column: Array) -> float:
    known = column[np.isfinite(column)]
    return float(np.median(known)) if len(known) else np.nan


def choices(seen: Candidates, done: Replay) -> tuple[Array, NDArray[np.intp]]:
    """Budgets at which the choice changes, and the trial chosen from there on; shapes [k].

    The choice is the trial of the lowest final signal among those completed so far; the first
    of several. One that is trained once more is there that much later.
    """
    final = seen.signal[:, -1]
    ended = np.flatnonzero((done.outcome == COMPLETE) & np.isfinite(final))
    ended = ended[np.argsort(done.ended[ended], kind="stable")]
    least = np.minimum.accumulate(final[ended])
    changes = np.flatnonzero(np.diff(least, prepend=np.inf) < 0)
    chosen = ended[changes]
    there = done.spent(done.ended[chosen]) + seen.refit_cost[chosen]
    return np.maximum.accumulate(there), chosen


def steps(truth: Truth, target: str, spent: Array, chosen: NDArray[np.intp]) -> Steps:
    """Simple regret: the target of the choice less the best of all trials on any data."""
    best = truth.best[target]
    return Steps(spent, truth.final[target][chosen] - best, truth.blind[target] - best)


def scores(seen: Candidates, done: Replay, truth: Truth) -> dict[str, float | Array]:
    """All numbers of one replayed study; those that are curves have the shape of `GRID`.

    For each target: `.area`, its mean over the logarithm of the budget; `.10`, `.25`, `.50` and
    `.100`, with so many per cent of the budget; and `.curve`. `false.1` and `false.10`: the share
    of the best one and ten per cent by final test loss, one trial at least, that were not trained
    to the end. `epochs` trained; `cost` in all and `wall`, the clock at the end, in
    epoch-equivalents; `measuring`, the share of the cost that the signal took.
    """
    count, horizon = seen.signal.shape
    full = float(count * horizon)
    spent, chosen = choices(seen, done)
    found: dict[str, float | Array] = {}
    for target in TARGETS:
        own = steps(truth, target, spent, chosen)
        found[f"{target}.area"] = own.area(GRID[0] * full, full)
        shares = own.at(np.array(FRACTIONS) * full)
        found |= {f"{target}.{100 * f:.0f}": r for f, r in zip(FRACTIONS, shares, strict=True)}
        found[f"{target}.curve"] = own.at(GRID * full)
    found |= {f"false.{100 * s:.0f}": false_pruning(truth, done, s, horizon) for s in BEST}
    trained, measured = done.epochs @ seen.epoch_cost, done.looks @ seen.look_cost
    again = float(seen.refit_cost[chosen[-1]]) if len(chosen) else 0.0
    total = trained + measured + again
    found |= {"epochs": float(done.epochs.sum()), "cost": total}
    return found | {"measuring": measured / total, "wall": done.finish.max() + again}


def false_pruning(truth: Truth, done: Replay, share: float, horizon: int) -> float:
    """Part of the best trials by final test loss that did not get all their epochs."""
    final = truth.final["test_loss"]
    known = np.flatnonzero(np.isfinite(final))
    if not len(known):
        return np.nan
    count = max(1, round(share * len(final)))
    best = known[np.argsort(final[known], kind="stable")[:count]]
    return float((done.epochs[best] < horizon).mean())
