"""Means over orders, over the settings of a regime, and over resamples of the orders."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gentheory.pruner_benchmark.arms import Arm
from gentheory.pruner_benchmark.benchmark import Outcome, Run
from gentheory.pruner_benchmark.curves import Array
from gentheory.seeds import seed_of
from gentheory.stats import Interval
from gentheory.stats.resample import draw_counts

LEVEL = 0.95


@dataclass(frozen=True)
class Scope:
    """A setting, or all settings of a regime with equal weight."""

    label: str
    settings: tuple[str, ...]
    pooled: bool = False
    """Whether it stands for a regime."""


@dataclass(frozen=True)
class Sampled:
    """Numbers of a scope, themselves and on K resamples of the orders."""

    value: Array
    """Shape [...]."""
    samples: Array
    """Shape [K, ...]."""
    count: int
    """Orders in each setting."""

    def __sub__(self, other: "Sampled") -> "Sampled":
        return Sampled(self.value - other.value, self.samples - other.samples, self.count)

    def interval(self, place: int) -> Interval:
        """Of one entry, the percentiles of the resamples."""
        value, samples = float(self.value[place]), self.samples[:, place]
        return Interval.from_resamples(value, samples, count=self.count, level=LEVEL)


class Means:
    """An outcome's means over orders; orders are drawn in each setting by themselves.

    All arms of a setting share their resamples, so that differences are paired.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    @cached_property
    def scopes(self) -> list[Scope]:
        """The regimes first, then every setting."""
        tables = self.outcome.tables
        regimes = {
            regime: tuple(name for name, table in tables.items() if table.regime == regime)
            for regime in ("lazy", "rich")
        }
        pooled = [Scope(regime, names, True) for regime, names in regimes.items() if names]
        return pooled + [Scope(name, (name,)) for name in tables]

    def arms(self, scope: Scope) -> list[Arm]:
        """Those that every setting of the scope has, the reference first."""
        first, *others = (self.outcome.arms(setting) for setting in scope.settings)
        return [arm for arm in first if all(arm in other for other in others)]

    def of(self, scope: Scope, run: Run, arm: Arm, names: Sequence[str]) -> Sampled:
        """Scores of these names, each [orders] or each [orders, budgets], side by side."""
        parts = [self._setting(setting, run, arm, names) for setting in scope.settings]
        value = np.mean([value for value, _ in parts], axis=0)
        samples = np.mean([samples for _, samples in parts], axis=0)
        return Sampled(value, samples, self.outcome.design.orders)

    def part(self, setting: str) -> float:
        """At most so much of an order's variance is left in the mean: m/n + 1/orders."""
        table, design = self.outcome.tables[setting], self.outcome.design
        return min(1.0, design.trials / table.present.any(axis=1).sum()) + 1 / design.orders

    def _setting(
        self, setting: str, run: Run, arm: Arm, names: Sequence[str]
    ) -> tuple[Array, Array]:
        scores = self.outcome.played[setting, arm].scores[run]
        columns = np.column_stack([scores[name] for name in names])
        return columns.mean(axis=0), self._counts[setting] @ columns / len(columns)

    @cached_property
    def _counts(self) -> dict[str, Array]:
        """How often each order stands in each resample, [K, orders] by setting."""
        design = self.outcome.design
        orders = np.arange(design.orders)
        seeds = {name: seed_of(design.seed, "resamples", name) for name in self.outcome.tables}
        return {
            name: np.concatenate(list(draw_counts(orders, design.resamples, seed=seed)))
            for name, seed in seeds.items()
        }
