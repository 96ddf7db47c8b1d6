"""What a pruner can be shown of a model: the arms of the comparison, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from gentheory.pruner_benchmark.curves import SECONDS, Array, Data, Table
from gentheory.pruning.criterion import bounded
from gentheory.seeds import generator, seed_of

VALIDATION = "validation loss"
REFITTED = "validation loss, its choice trained again on all data"
TRAINING = "training loss"
TIME = "epochs × learning rate"
BOUNDED = " (bounded)"
"""After a criterion's name: its gap is `gentheory.pruning.criterion.bounded`."""
RANDOM = "random"
ORACLE = "oracle"
_COLUMNS = {
    VALIDATION: "validation_loss",
    REFITTED: "validation_loss",
    TRAINING: "train_loss",
}


@dataclass(frozen=True)
class Arm:
    """A signal, lower is better, of models that were trained on some data."""

    signal: str
    data: Data

    @property
    def label(self) -> str:
        """The signal's name, and whether the models have the held-out examples too."""
        return self.signal if self.data == "training" else f"{self.signal}, all data"

    @property
    def is_criterion(self) -> bool:
        """Whether it predicts the gap, and is none of the baselines and bounds."""
        return self.signal not in (VALIDATION, REFITTED, TRAINING, TIME, RANDOM, ORACLE)

    @property
    def final_data(self) -> Data:
        """What the model that is chosen in the end was trained on."""
        return "all" if self.signal == REFITTED else self.data


REFERENCE = Arm(VALIDATION, "training")
"""What the others are compared with: the usual way of pruning."""
REFIT = Arm(REFITTED, "training")
"""What one can do with all data who prunes by the validation loss, for one training more."""


def arms(table: Table, criteria: Sequence[str]) -> list[Arm]:
    """The reference first, then every other signal on the training examples and on all data."""
    both = (*criteria, *(f"{name}{BOUNDED}" for name in criteria))
    signals = (TRAINING, *both, TIME, RANDOM, ORACLE)
    found: list[Arm] = [Arm(signal, data) for data in table.columns for signal in signals]
    return [REFERENCE, *([REFIT] if "all" in table.columns else []), *found]


def values(table: Table, arm: Arm) -> Array:
    """The signal of every model at every epoch, shape [n, S, T]; random is nan here.

    The oracle says the final test loss at every epoch, infinite for a model that will diverge; it
    alone sees test examples.
    """
    columns = table.columns[arm.data]
    if arm.signal == ORACLE:
        final = np.nan_to_num(columns["test_loss"][:, :, -1:], nan=np.inf, posinf=np.inf)
        return np.broadcast_to(final, columns["test_loss"].shape)
    if arm.signal == TIME:
        return -columns["training_time"]
    if arm.signal == RANDOM:
        return np.full_like(columns["epoch"], np.nan)
    if arm.signal.endswith(BOUNDED):
        loss = columns["train_loss"]
        return loss + bounded(columns[arm.signal.removesuffix(BOUNDED)] - loss)
    return columns[_COLUMNS.get(arm.signal, arm.signal)]


def look_cost(table: Table, arm: Arm) -> Array:
    """Epoch-equivalents of one look at the signal, shape [n].

    A validation loss costs one pass over the validation examples, a criterion its own seconds;
    a training loss costs nothing, as it comes with training.
    """
    if arm in (REFERENCE, REFIT):
        return table.cost("training", "validation_seconds")
    if not arm.is_criterion:
        return np.zeros(len(table.configs))
    return table.cost(arm.data, arm.signal.removesuffix(BOUNDED) + SECONDS)


@dataclass(frozen=True)
class Order:
    """The trials of one study, the same for every arm: configurations in turn, a seed each."""

    number: int
    configs: NDArray[np.intp]
    """Shape [n]."""
    seeds: NDArray[np.intp]
    """Shape [n]."""


def draw_order(table: Table, number: int, *, trials: int, seed: int) -> Order:
    """At most `trials` configurations without replacement, each with one of its seeds."""
    random = np.random.default_rng(seed_of(seed, "order", table.setting, number))
    usable = np.flatnonzero(table.present.any(axis=1))
    configs = random.permutation(usable)[:trials]
    seeds = [random.choice(np.flatnonzero(table.present[config])) for config in configs]
    return Order(number, configs, np.array(seeds, dtype=np.intp))


@dataclass(frozen=True)
class Candidates:
    """What an arm meets in one order: n trials over T epochs. Costs are epoch-equivalents."""

    signal: Array
    """Lower is better, nan is unknown; shape [n, T]."""
    diverged: NDArray[np.bool_]
    """Whether the training loss is not finite; shape [n, T]."""
    epoch_cost: Array
    """Of one epoch of training, shape [n]."""
    look_cost: Array
    """Of one look at the signal, shape [n]."""
    refit_cost: Array
    """Of training a choice once more, 0 where it is taken as it is; shape [n]."""

    @property
    def horizon(self) -> int:
        """T, the epochs of a whole training."""
        return self.signal.shape[1]

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """After which epochs the signal was measured at all, shape [T]."""
        return np.asarray(~np.isnan(self.signal).all(axis=0))


class View:
    """A table as one arm sees it; the random signal depends on `seed` and on the order."""

    def __init__(self, table: Table, arm: Arm, *, seed: int, charged: bool = True) -> None:
        self._signal = values(table, arm)
        self._diverged = ~np.isfinite(table.columns[arm.data]["train_loss"])
        self._epoch_cost = table.cost(arm.data, "epoch_seconds")
        self._look_cost = look_cost(table, arm) * charged
        again = table.horizon * table.cost("all", "epoch_seconds") if arm == REFIT else 0.0
        self._refit_cost = np.broadcast_to(again, len(table.configs))
        self._noise = (seed, RANDOM, table.setting, arm.data) if arm.signal == RANDOM else None

    def along(self, order: Order) -> Candidates:
        """The trials of the order in turn."""
        place = order.configs, order.seeds
        signal = self._signal[place]
        if self._noise is not None:
            stream = generator(*self._noise, order.number)
            signal = torch.rand(signal.shape, generator=stream, dtype=torch.float64).numpy()
        each = self._epoch_cost, self._look_cost, self._refit_cost
        costs = (cost[order.configs] for cost in each)
        return Candidates(signal, self._diverged[place], *costs)
