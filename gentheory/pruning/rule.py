"""The decision whether a trial ends early, for any loop: asynchronous successive halving.

    >>> from gentheory.pruning.observation import Observation
    >>> halving = Halving(min_resource=1, reduction_factor=2)
    >>> losses = {"steep": [0.9, 0.5, 0.2, 0.1], "flat": [1.0, 0.9, 0.9, 0.8]}
    >>> epochs = {name: 0 for name in losses}
    >>> for name, curve in losses.items():
    ...     for epoch, loss in enumerate(curve, start=1):
    ...         epochs[name] = epoch
    ...         if not halving.wants(name, epoch):
    ...             continue  # nothing is decided here, so nothing need be measured
    ...         if halving.should_prune(name, epoch, Observation(loss)):
    ...             break
    >>> epochs
    {'steep': 4, 'flat': 1}

In place of `Observation(loss)` stands what a `Criterion` says of the model.
Source: Li et al. 2020 (arXiv 1810.05934); the arithmetic is that of Optuna's
`SuccessiveHalvingPruner`.
"""

import math
from collections.abc import Hashable, Sequence

from gentheory.errors import InputError
from gentheory.pruning.observation import Observation


class Halving:
    """Rungs at `min_resource · reduction_factor^(min_early_stopping_rate + k)` steps, k = 0, 1, …

    A trial passes a rung if its criterion is among the best 1 / `reduction_factor` of those seen
    there so far, its own included, or the best of fewer than that. No trial passes a rung before
    `bootstrap_count` others have come to it. Steps are whole numbers that rise.

    A model that diverged is pruned wherever it is; one that is unknown goes on, and leaves no
    value behind. Values by different measures or numbers of examples do not compare: a rung
    refuses those other than its first.

    Raises `InputError` for numbers below 1, a `reduction_factor` below 2, and negative rates.
    """

    def __init__(
        self,
        min_resource: int = 1,
        reduction_factor: int = 4,
        min_early_stopping_rate: int = 0,
        bootstrap_count: int = 0,
    ) -> None:
        _check_least("min_resource", min_resource, 1)
        _check_least("reduction_factor", reduction_factor, 2)
        _check_least("min_early_stopping_rate", min_early_stopping_rate, 0)
        _check_least("bootstrap_count", bootstrap_count, 0)
        self.min_resource = min_resource
        self.reduction_factor = reduction_factor
        self.min_early_stopping_rate = min_early_stopping_rate
        self.bootstrap_count = bootstrap_count
        self._rungs: list[dict[Hashable, float]] = []
        self._kinds: list[tuple[str, int]] = []

    def step_of(self, rung: int) -> int:
        """The step at which trials come to this rung; the first is 0."""
        return self.min_resource * self.reduction_factor ** (self.min_early_stopping_rate + rung)

    def rung_of(self, step: int) -> int | None:
        """The highest rung that a trial of so many steps has come to; None below the first."""
        if step < self.step_of(0):
            return None
        rung = 0
        while self.step_of(rung + 1) <= step:
            rung += 1
        return rung

    def wants(self, trial: Hashable, step: int) -> bool:
        """Whether an observation of the trial at this step would meet a rung."""
        return step >= self.step_of(self._passed(trial))

    def should_prune(self, trial: Hashable, step: int, observation: Observation) -> bool:
        """Take the observation to each rung that the trial has newly come to.

        Raises `InputError` where the rung holds values by another measure.
        """
        if observation.state == "diverged":
            return True
        if observation.state == "unknown":
            return False
        value = observation.criterion
        while step >= self.step_of(rung := self._passed(trial)):
            if math.isnan(value):
                return True
            values = self._joined(rung, trial, observation)
            if not self.passes(value, values):
                return True
        return False

    def passes(self, value: float, values: Sequence[float]) -> bool:
        """Whether this one of a rung's values, lower being better, may go on to the next."""
        if len(values) <= self.bootstrap_count:
            return False
        kept = max(len(values) // self.reduction_factor, 1)
        return value <= sorted(values)[kept - 1]

    def _passed(self, trial: Hashable) -> int:
        """How many rungs the trial has come to."""
        rungs = enumerate(self._rungs)
        return next((rung for rung, values in rungs if trial not in values), len(self._rungs))

    def _joined(self, rung: int, trial: Hashable, observation: Observation) -> list[float]:
        """The rung's values with the trial's among them."""
        kind = (observation.measure, observation.num_examples)
        if rung == len(self._rungs):
            self._rungs.append({})
            self._kinds.append(kind)
        if kind != self._kinds[rung]:
            raise InputError(
                f"rung {rung}, trial {trial!r}",
                f"a value by {_told(kind)}",
                f"one by {_told(self._kinds[rung])}, as the others there",
                "observe all trials with one criterion, and its one plan",
            )
        self._rungs[rung][trial] = observation.criterion
        return list(self._rungs[rung].values())


def _told(kind: tuple[str, int]) -> str:
    measure, count = kind
    return f"{measure or 'no measure'} of {count} examples"


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(name, str(value), f"a whole number of at least {least}", "give more")
