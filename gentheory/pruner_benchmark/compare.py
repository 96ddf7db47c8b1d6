"""Arms side by side under one pruner: levels and paired differences, with Holm's correction."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from gentheory.pruner_benchmark.arms import ORACLE, RANDOM, REFIT, REFITTED, Arm
from gentheory.pruner_benchmark.benchmark import Run
from gentheory.pruner_benchmark.curves import Array
from gentheory.pruner_benchmark.means import LEVEL, Means, Scope
from gentheory.pruner_benchmark.ranking import RIVALS, RUNGS, rivals
from gentheory.pruner_benchmark.regret import BEST, FRACTIONS, GRID, TARGETS
from gentheory.stats import Interval, holm, p_values

REGRETS = tuple(
    f"{target}.{what}"
    for target in TARGETS
    for what in ("area", *(f"{100 * fraction:.0f}" for fraction in FRACTIONS))
)
METRICS = (*REGRETS, *(f"false.{100 * s:.0f}" for s in BEST), "epochs", "cost", "measuring", "wall")


def levels(means: Means) -> pd.DataFrame:
    """The mean of every metric with its interval, a row a scope, run, arm and metric."""
    rows: list[dict[str, Any]] = []
    for scope, run in each_run(means):
        for arm in means.arms(scope):
            found = means.of(scope, run, arm, METRICS)
            for place, metric in enumerate(METRICS):
                row = {**named(scope, run, arm), "metric": metric}
                rows.append(row | cells("mean", found.interval(place)))
    return pd.DataFrame(rows)


def differences(means: Means) -> pd.DataFrame:
    """Every arm less its rivals, order by order, with p-values that Holm adjusts over arms.

    `better` is the share of orders with a lower score than the rival's. `bound` is an upper
    bound for the standard error over another draw of configurations: the mean over orders is an
    incomplete U-statistic of the n configurations with a kernel of m trials, so its variance is
    at most (m/n + 1/orders) times that of one order (Hoeffding 1948).
    """
    rows = [
        row
        for scope, run in each_run(means)
        for rival in (*RIVALS, REFITTED)
        for row in _adjusted(list(_against(means, scope, run, rival)))
    ]
    return pd.DataFrame(rows)


def _against(means: Means, scope: Scope, run: Run, rival: str) -> Iterator[dict[str, Any]]:
    for arm in means.arms(scope):
        other = (rivals(arm) | ({} if arm == REFIT else {REFITTED: REFIT})).get(rival)
        if other is None or other not in means.arms(scope):
            continue
        lead = means.of(scope, run, arm, REGRETS) - means.of(scope, run, other, REGRETS)
        for place, metric in enumerate(REGRETS):
            found = lead.interval(place)
            row = {**named(scope, run, arm), "rival": rival, "metric": metric}
            row |= {**cells("difference", found), "p": float(p_values([found])[0])}
            yield row | _beyond(means, scope, run, (arm, other), metric)


def _beyond(
    means: Means, scope: Scope, run: Run, pair: tuple[Arm, Arm], metric: str
) -> dict[str, float]:
    """How often the first arm is better, and how far another draw of configurations may be."""
    better, variance = 0.0, 0.0
    for setting in scope.settings:
        own, other = (means.outcome.played[setting, arm].scores[run][metric] for arm in pair)
        better += float((own < other).mean())
        variance += means.part(setting) * float((own - other).var(ddof=1))
    count = len(scope.settings)
    return {"better": better / count, "bound": math.sqrt(variance) / count}


def _adjusted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With Holm's p-values over the arms of each metric, without what is known beforehand."""
    for metric in REGRETS:
        tested = [row for row in rows if row["metric"] == metric]
        tested = [row for row in tested if row["signal"] not in (RANDOM, ORACLE)]
        for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row["holm"] = float(p)
    return [{**row, "holm": row.get("holm", math.nan)} for row in rows]


def curves(means: Means) -> pd.DataFrame:
    """Mean regret at each budget of the grid with its interval, a row for each of both targets."""
    rows: list[dict[str, Any]] = []
    for scope, run in each_run(means):
        for arm in means.arms(scope):
            for target in TARGETS:
                found = means.of(scope, run, arm, (f"{target}.curve",))
                low, high = np.quantile(found.samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
                band = {"regret": found.value, "regret.low": low, "regret.high": high}
                rows.append({**named(scope, run, arm), "target": target, "budget": GRID} | band)
    return pd.DataFrame(rows)


def savings(means: Means) -> pd.DataFrame:
    """Part of the budget saved at the regret that validation-loss pruning has with it.

    One less the budget at which the arm's mean regret first is as low, over the rival's;
    negative where it needs more, nan where it never gets there.
    """
    rows: list[dict[str, Any]] = []
    for scope, run in each_run(means):
        reference, *others = means.arms(scope)
        for target in TARGETS:
            curve = (f"{target}.curve",)
            rival = means.of(scope, run, reference, curve)
            for arm in others:
                own = means.of(scope, run, arm, curve)
                for fraction in FRACTIONS:
                    value = saved(own.value[None], rival.value[None], fraction)
                    samples = saved(own.samples, rival.samples, fraction)
                    found = Interval.from_resamples(
                        float(value[0]), samples, count=own.count, level=LEVEL
                    )
                    row = {**named(scope, run, arm), "target": target, "budget": fraction}
                    rows.append(row | cells("saved", found))
    return pd.DataFrame(rows)


def saved(own: Array, rival: Array, fraction: float) -> Array:
    """1 - b/f, b the least budget where a curve is down at the rival's regret with budget f.

    Curves are regrets on `GRID`, shapes [K, budgets]; between budgets they are interpolated on
    the logarithm of the budget. Shape [K]; nan where a curve never gets so low.
    """
    logs, rows = np.log(GRID), np.arange(len(own))
    after = int(np.searchsorted(GRID, fraction))
    part = (math.log(fraction) - logs[after - 1]) / (logs[after] - logs[after - 1])
    level = (1 - part) * rival[:, after - 1] + part * rival[:, after]
    reached = own <= level[:, None]
    first = reached.argmax(axis=1)
    before = np.maximum(first - 1, 0)
    upper, lower = own[rows, before], own[rows, first]
    share = np.where(first > 0, (upper - level) / np.where(upper > lower, upper - lower, 1.0), 0.0)
    budget = np.exp(logs[before] + share * (logs[first] - logs[before]))
    return np.where(reached.any(axis=1), 1 - budget / fraction, np.nan)


def taus(means: Means) -> pd.DataFrame:
    """Kendall's tau of every signal at every epoch, and its leads over the rivals.

    Of a regime at the rungs alone: the mean over its settings.
    """
    table = pd.DataFrame([row for scope in means.scopes for row in _taus(means, scope)])
    for rival in RIVALS:
        table[f"{rival}.holm"] = math.nan
        for _, own in table.groupby(["scope", "target", "epoch"]):
            table.loc[own.index, f"{rival}.holm"] = holm(own[f"{rival}.p"])
    return table


def _taus(means: Means, scope: Scope) -> Iterator[dict[str, Any]]:
    for arm in means.arms(scope):
        each = [
            {(tau.epoch, tau.target): tau for tau in means.outcome.played[setting, arm].taus}
            for setting in scope.settings
        ]
        for key in each[0]:
            if scope.pooled and key[0] not in RUNGS:
                continue
            same = [own[key] for own in each if key in own]
            count = sum(tau.count for tau in same)
            row = {"scope": scope.label, "arm": arm.label, "signal": arm.signal, "data": arm.data}
            row |= {"epoch": key[0], "target": key[1], "count": count}
            row |= cells("kendall", _mean([tau.kendall for tau in same], count))
            for rival in RIVALS:
                lead = _mean([tau.leads[rival] for tau in same if rival in tau.leads], count)
                row |= {**cells(rival, lead), f"{rival}.p": float(p_values([lead])[0])}
            yield row


def _mean(parts: list[tuple[float, Array]], count: int) -> Interval:
    if not parts or not all(len(samples) for _, samples in parts):
        value = float(np.mean([value for value, _ in parts])) if parts else math.nan
        return Interval(value, math.nan, math.nan, math.nan, count, LEVEL)
    value = float(np.mean([value for value, _ in parts]))
    samples = np.mean([samples for _, samples in parts], axis=0)
    return Interval.from_resamples(value, samples, count=count, level=LEVEL)


def each_run(means: Means) -> Iterator[tuple[Scope, Run]]:
    """Every scope with every run."""
    yield from ((scope, run) for scope in means.scopes for run in means.outcome.design.runs())


def named(scope: Scope, run: Run, arm: Arm) -> dict[str, Any]:
    """The columns that say what a row is about."""
    place = {"scope": scope.label, "base": run.base, "workers": run.workers}
    return place | {"arm": arm.label, "signal": arm.signal, "data": arm.data}


def cells(name: str, found: Interval) -> dict[str, float]:
    """An interval as columns."""
    bounds = {f"{name}.low": found.low, f"{name}.high": found.high}
    return {name: found.value, **bounds, f"{name}.stderr": found.stderr}
