"""Thresholds fitted on one study and checked on another.

A model is a positive where TIC is within a factor of two of its measured gap. Each indicator is
cut where Youden's J is largest. Those whose AUROC is surely above 1/2 are informative; each has
its J for a weight, so that a weak one does not outvote a strong one. The rule is the weighted share
that a model passes, cut in the same way. Intervals are percentiles of a bootstrap over
hyper-parameter points. The words of a verdict are those that hold on both studies.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.stats import Interval, bootstrap
from gentheory.stats.roc import auroc, youden
from gentheory.study.tables import Tables
from gentheory.trust.cases import FACTOR, Cases, Column, known
from gentheory.trust.indicators import AVAILABLE, INDICATORS, Indicator
from gentheory.trust.record import (
    Figure,
    Judged,
    Outcome,
    Rule,
    Thresholds,
    Tier,
    Verdict,
    Worth,
)

LOSS = "cross_entropy"
"""Studies train with no other."""

Drawn = Callable[..., Interval]
"""`bootstrap` of a statistic of columns, with `clusters`."""


def fit(tables: Tables, check: Tables, *, num_resamples: int = 1000, seed: int = 0) -> Thresholds:
    """Thresholds and rules from the tables of one study, with their worth on it and on another.

    Raises `InputError` for a study that lacks one of the measures or models of either kind, and
    where no indicator is informative.
    """
    fitted, checked = Cases.of(tables), Cases.of(check)
    drawn = partial(bootstrap, num_resamples=num_resamples, seed=seed)
    judged = tuple(_judged(indicator, fitted, checked, drawn) for indicator in INDICATORS)
    rules = tuple(_rule(group, fitted, checked, drawn) for group in _groups(judged))
    if not rules:
        raise InputError(
            f"study {tables.name}",
            "no informative indicator",
            "one whose AUROC is surely above 1/2",
            "fit on a study with more models",
        )
    return Thresholds(
        factor=FACTOR,
        loss=LOSS,
        fit=fitted.source,
        check=checked.source,
        indicators=judged,
        rules=rules,
    )


def _groups(judged: Sequence[Judged]) -> list[tuple[Judged, ...]]:
    """The informative indicators of each kind of net, no group twice and none empty."""
    pairs = list(zip(INDICATORS, judged, strict=True))
    groups = [
        tuple(j for indicator, j in pairs if j.informative and indicator.needs <= available)
        for available in AVAILABLE
    ]
    return [group for place, group in enumerate(groups) if group and group not in groups[:place]]


def passes(indicator: Judged, value: float) -> bool:
    """Whether a known value is on the side of the threshold that speaks for TIC."""
    threshold = indicator.threshold.number
    return value > threshold if indicator.high else value < threshold


def share_passed(indicators: Sequence[Judged], values: Mapping[str, float]) -> float:
    """The weighted share of those whose values are known that pass; nan where none is."""
    found = [one for one in indicators if math.isfinite(values[one.name])]
    total = sum(one.weight for one in found)
    passed = sum(one.weight for one in found if passes(one, values[one.name]))
    return passed / total if total else math.nan


def _judged(indicator: Indicator, fitted: Cases, checked: Cases, drawn: Drawn) -> Judged:
    sign = 1.0 if indicator.high else -1.0
    score, within, point = known(fitted, sign * fitted.values[indicator.name])
    cut = drawn(youden, score, within, clusters=point)
    ends = cut.low, cut.high
    low, high = ends if indicator.high else (-ends[1], -ends[0])
    worth = [
        _worth(sign * cases.values[indicator.name], cases, cut.value, drawn)
        for cases in (fitted, checked)
    ]
    j = worth[0].sensitivity.number + worth[0].specificity.number - 1
    turned = Interval(sign * cut.value, low, high, cut.stderr, cut.count, cut.level)
    return Judged(
        name=indicator.name,
        high=indicator.high,
        threshold=Figure.of(turned),
        informative=worth[0].auroc.surely_above(0.5),
        weight=round(max(0.0, j), 4) if math.isfinite(j) else 0.0,
        fit=worth[0],
        check=worth[1],
    )


def _rule(indicators: Sequence[Judged], fitted: Cases, checked: Cases, drawn: Drawn) -> Rule:
    shares = [_shares(indicators, cases) for cases in (fitted, checked)]
    score, within, point = known(fitted, shares[0])
    cut = drawn(youden, score, within, clusters=point)
    outcomes = [
        _outcome(share, cases, cut.value, drawn)
        for share, cases in zip(shares, (fitted, checked), strict=True)
    ]
    return Rule(
        indicators=tuple(indicator.name for indicator in indicators),
        threshold=Figure.of(cut),
        verdicts=_verdicts(outcomes),
        fit=outcomes[0],
        check=outcomes[1],
    )


def _verdicts(outcomes: Sequence[Outcome]) -> tuple[Verdict, Verdict]:
    """The words that both studies bear out; what the check refutes is not said."""
    passed = [outcome.passed for outcome in outcomes]
    failed = [outcome.failed for outcome in outcomes]
    size, no_size = (all(tier.right.surely_above(0.5) for tier in t) for t in (passed, failed))
    above, below = (all(tier.tau.surely_above(0.0) for tier in t) for t in (passed, failed))
    if size:
        first: Verdict = "trust" if above else "trust the size, not the rank"
    else:
        first = "trust the rank, not the size" if above else "undecided"
    if below:
        return first, "trust the rank, not the size"
    return first, "do not trust" if no_size else "undecided"


def _shares(indicators: Sequence[Judged], cases: Cases) -> Column:
    names = [indicator.name for indicator in indicators]
    rows = zip(*(cases.values[name] for name in names), strict=True)
    return np.array([share_passed(indicators, dict(zip(names, r, strict=True))) for r in rows])


def _worth(score: Column, cases: Cases, cut: float, drawn: Drawn) -> Worth:
    score, within, point = known(cases, score)
    return Worth(
        count=len(score),
        auroc=Figure.of(drawn(auroc, score, within, clusters=point)),
        sensitivity=Figure.of(drawn(_share, score > cut, within, clusters=point)),
        specificity=Figure.of(drawn(_share, score <= cut, ~within, clusters=point)),
    )


def _outcome(share: Column, cases: Cases, cut: float, drawn: Drawn) -> Outcome:
    score, within, point = known(cases, share)
    right, everywhere = (score > cut) == within, np.ones_like(within)
    worth = _worth(share, cases, cut, drawn)
    return Outcome(
        **dict(worth),
        right=Figure.of(drawn(_share, right, everywhere, clusters=point)),
        passed=_tier(share > cut, cases.within, cases, drawn),
        failed=_tier(share <= cut, ~cases.within, cases, drawn),
    )


def _tier(inside: NDArray[np.bool_], right: NDArray[np.bool_], cases: Cases, drawn: Drawn) -> Tier:
    """`right` where the rule is right of those `inside`."""
    point = None if cases.point is None else cases.point[inside]
    tau = drawn(
        _tau_within, cases.tic[inside], cases.gap[inside], cases.setting[inside], clusters=point
    )
    everywhere = np.ones(int(inside.sum()), dtype=bool)
    share = drawn(_share, right[inside], everywhere, clusters=point)
    return Tier(count=len(everywhere), right=Figure.of(share), tau=Figure.of(tau))


def _share(hit: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    return float(hit[of].mean()) if of.any() else math.nan


def _tau_within(x: Column, y: Column, group: NDArray[np.intp]) -> float:
    """(P − Q) / (P + Q) over the pairs of one group that neither column ties."""
    signs = np.sign(x[:, None] - x) * np.sign(y[:, None] - y)
    signs = signs[group[:, None] == group]
    pairs = np.abs(signs).sum()
    return float(signs.sum() / pairs) if pairs else math.nan
