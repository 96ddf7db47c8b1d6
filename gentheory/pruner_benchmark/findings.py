"""What the replay found, in sentences with intervals: where a criterion pays, where it loses."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gentheory.pruner_benchmark.arms import (
    ORACLE,
    RANDOM,
    REFITTED,
    TIME,
    TRAINING,
    VALIDATION,
)
from gentheory.pruner_benchmark.bases import HALVING_3, HYPERBAND
from gentheory.pruner_benchmark.ranking import RUNGS
from gentheory.report.numbers import interval, size, tau

Row = dict[str, Any]
_Spot = tuple[int, str, str, str]
"""Workers, scope, base and metric."""
ALPHA = 0.05
REGIMES = {"lazy": "inside the NTK regime (lazy)", "rich": "outside the NTK regime (rich)"}
TARGET_WORDS = {"test_loss": "test loss", "test_error": "test error"}
MAIN_BASES = (HALVING_3, HYPERBAND)
"""What the findings are about, with one worker."""
_NAMED = 3
"""Signals that a sentence names of each kind, from the least difference on."""
_ASIDE = (REFITTED, TIME, RANDOM, ORACLE)
_RIVAL_WORDS = {
    REFITTED: "validation-loss pruning whose choice is then trained once more on all the data",
    TRAINING: "the training loss alone",
}


@dataclass(frozen=True)
class Found:
    """All tables of a comparison."""

    levels: pd.DataFrame
    differences: pd.DataFrame
    curves: pd.DataFrame
    savings: pd.DataFrame
    taus: pd.DataFrame
    settings: dict[str, tuple[str, ...]]
    """Of each regime."""
    workers: int
    """That every pruner was replayed with."""
    charged: bool
    """Whether looks at a signal cost."""


def standing(row: Row) -> str:
    """`better`, `worse` or `open`: whether the interval and Holm's p-value exclude 0."""
    if not row["holm"] < ALPHA:
        return "open"
    return (
        "better" if row["difference.high"] < 0 else "worse" if row["difference.low"] > 0 else "open"
    )


def beyond(row: Row) -> bool:
    """Whether another draw of configurations would hardly change the sign either."""
    return abs(row["difference"]) > 1.96 * row["bound"]


def sentences(found: Found) -> list[str]:
    """By regime: tally, verdicts, whole budget, rivals, losses, tau, savings; the certainty."""
    regimes = [regime for regime in REGIMES if regime in found.settings]
    told = [_tally(found, regime) for regime in regimes]
    told += [_verdict(found, regime, base) for regime in regimes for base in MAIN_BASES]
    told += [_whole(found, regime) for regime in regimes]
    told += [_against(found, regime, REFITTED) for regime in regimes]
    told += [_against(found, regime, TRAINING) for regime in regimes]
    told += [_losses(found), *(_taus(found, regime) for regime in regimes)]
    told += [_savings(found, regime) for regime in regimes]
    return [*told, _certainty(found)]


def _tally(found: Found, regime: str) -> str:
    """In how many of the comparisons each signal on all the data is ahead or behind."""
    kinds: dict[str, list[str]] = {}
    for base in MAIN_BASES:
        for target in TARGET_WORDS:
            place = found.workers, regime, base, f"{target}.area", VALIDATION
            for row in select(found.differences, *place):
                if row["data"] == "all" and row["signal"] not in _ASIDE:
                    kinds.setdefault(row["signal"], []).append(standing(row))
    parts = [f"{signal} {_counted(told)}" for signal, told in kinds.items()]
    return (
        f"{_capital(REGIMES[regime])}, {_count(found, regime)}: at equal budget and with all the "
        f"data, against validation-loss pruning, test loss and test error under "
        f"{_listed(MAIN_BASES)}: {'; '.join(parts) or 'no model has all the data'}."
    )


def _counted(told: list[str]) -> str:
    counts = {kind: told.count(kind) for kind in ("better", "worse")}
    parts = [f"{kind} in {count}" for kind, count in counts.items() if count]
    return f"{' and '.join(parts) or 'not told apart in any'} of {len(told)}"


def _verdict(found: Found, regime: str, base: str) -> str:
    parts: list[str] = []
    for target, words in TARGET_WORDS.items():
        place = found.workers, regime, base, f"{target}.area"
        rows = _compared(found, place, VALIDATION)
        own = interval(_reference(found, place), "mean", size)
        parts.append(f"regret of the {words}, over all budgets, with the validation loss {own}")
        parts += _sorted_out(rows, "all", " with all the data", numbers=True)
        parts += _sorted_out(rows, "training", " on the same training examples", numbers=False)
    return f"{_capital(REGIMES[regime])}, {_count(found, regime)}, {base}: {'; '.join(parts)}."


def _whole(found: Found, regime: str) -> str:
    """What is left once looks no longer take budget that others train with."""
    parts: list[str] = []
    for base in MAIN_BASES:
        for target, words in TARGET_WORDS.items():
            place = found.workers, regime, base, f"{target}.100"
            own = interval(_reference(found, place), "mean", size)
            rows = _compared(found, place, VALIDATION)
            told = _sorted_out(rows, "all", " with all the data", numbers=True)
            parts.append(f"{base}, {words}: validation loss {own}; {', '.join(told)}")
    return f"With the whole budget, {REGIMES[regime]}, regret: {'; '.join(parts)}."


def _compared(found: Found, place: _Spot, rival: str) -> list[Row]:
    """How the criteria and the training loss differ from a rival."""
    rows = select(found.differences, *place, rival)
    return [row for row in rows if row["signal"] not in (*_ASIDE, VALIDATION)]


def _reference(found: Found, place: _Spot) -> Row:
    """The level of validation-loss pruning itself."""
    rows = select(found.levels, *place)
    return next(row for row in rows if row["signal"] == VALIDATION)


def _sorted_out(rows: list[Row], data: str, words: str, *, numbers: bool) -> list[str]:
    """Which signals are better, worse and not told apart, the first two with numbers if wanted."""
    parts: list[str] = []
    rows = [row for row in rows if row["data"] == data]
    if rows and all(standing(row) == "open" for row in rows):
        return [f"none told apart{words}"]
    for kind in ("better", "worse", "open"):
        own = [row for row in rows if standing(row) == kind]
        if own:
            shown = numbers and kind != "open"
            names = _named(sorted(own, key=lambda row: row["difference"]), numbers=shown)
            parts.append(f"{kind if kind != 'open' else 'not told apart'}{words}: {names}")
    return parts


def _named(rows: list[Row], *, numbers: bool) -> str:
    """The first of the rows, with numbers if wanted, and how many there are besides."""
    names = [
        f"{row['signal']} {interval(row, 'difference', size)}" if numbers else row["signal"]
        for row in rows
    ]
    rest = len(names) - _NAMED
    return ", ".join(names) if rest < 2 else f"{', '.join(names[:_NAMED])} and {rest} more"


def _against(found: Found, regime: str, rival: str) -> str:
    """Whether a criterion is worth more than its strongest rivals, one of which it contains."""
    parts: list[str] = []
    for base in MAIN_BASES:
        for target, words in TARGET_WORDS.items():
            place = found.workers, regime, base, f"{target}.area"
            told = _sorted_out(_compared(found, place, rival), "all", "", numbers=True)
            parts.append(f"{base}, {words}: {', '.join(told)}")
    return (
        f"Against {_RIVAL_WORDS[rival]}, {REGIMES[regime]}, with all the data: {'; '.join(parts)}."
    )


def _losses(found: Found) -> str:
    """In which single settings the criteria on all data are behind the validation loss."""
    lost: list[str] = []
    for setting in (setting for names in found.settings.values() for setting in names):
        for base in MAIN_BASES:
            for target, words in TARGET_WORDS.items():
                place = found.workers, setting, base, f"{target}.area", VALIDATION
                behind = [r for r in select(found.differences, *place) if _criterion(r, "all")]
                names = [r["signal"] for r in behind if standing(r) == "worse"]
                if names:
                    lost.append(f"{setting}, {base}, {words}: {', '.join(names)}")
    if not lost:
        return "In no setting is a criterion with all the data beyond doubt behind validation loss."
    return f"Behind validation loss although they have all the data: {'; '.join(lost)}."


def _taus(found: Found, regime: str) -> str:
    table = found.taus
    own = table.loc[(table["scope"] == regime) & (table["target"] == "test_loss")]
    epochs = [epoch for epoch in RUNGS if epoch in set(own["epoch"])]
    parts: list[str] = []
    for arm, rows in own.groupby("arm", sort=False):
        records = {row["epoch"]: row for row in rows.to_dict(orient="records")}
        first = next(iter(records.values()))
        if first["signal"] != TIME:
            parts.append(f"{arm} {', '.join(tau(records[e]['kendall']) for e in epochs)}")
    return (
        f"Kendall's τ with the final test loss after {_listed(epochs)} epochs, {REGIMES[regime]}: "
        f"{'; '.join(parts)}."
    )


def _savings(found: Found, regime: str) -> str:
    parts: list[str] = []
    for base in MAIN_BASES:
        table = found.savings
        rows = table.loc[
            (table["scope"] == regime)
            & (table["base"] == base)
            & (table["workers"] == found.workers)
            & (table["target"] == "test_loss")
            & (table["budget"] == 0.25)
        ].to_dict(orient="records")
        told = [
            f"{row['arm']} {_share(row)}"
            for row in rows
            if _criterion(row, "all") or (row["signal"], row["data"]) == (TRAINING, "all")
        ]
        parts.append(f"{base}: {', '.join(told)}")
    return (
        f"Budget saved at the test-loss regret that the validation loss reaches with 25 % of it, "
        f"{REGIMES[regime]}: {'; '.join(parts)}."
    )


def _share(row: Row) -> str:
    if np.isnan(row["saved"]):
        return "never as low"
    return interval(row, "saved", lambda value: f"{100 * value:.0f} %".replace("-", "−"))


def _certainty(found: Found) -> str:
    table = found.differences
    own = table.loc[
        table["base"].isin(MAIN_BASES)
        & (table["workers"] == found.workers)
        & (table["rival"] == VALIDATION)
        & table["metric"].isin([f"{target}.area" for target in TARGET_WORDS])
        & table["scope"].isin(list(found.settings))
    ]
    rows = [row for row in own.to_dict(orient="records") if _criterion(row)]
    told = [row for row in rows if standing(row) != "open"]
    kept = sum(beyond(row) for row in told)
    return (
        f"Intervals cover the orders, not another draw of configurations: of the {len(told)} "
        f"differences of criteria from the validation loss that these findings call better or "
        f"worse, {kept} are also more than 1.96 times an upper bound for that error."
    )


def select(
    table: pd.DataFrame, workers: int, scope: str, base: str, metric: str, *rival: str
) -> list[Row]:
    """Rows of one number, for every arm."""
    kept = (table["scope"] == scope) & (table["base"] == base) & (table["metric"] == metric)
    kept &= table["workers"] == workers
    for name in rival:
        kept &= table["rival"] == name
    return table.loc[kept].to_dict(orient="records")


def _criterion(row: Row, data: str | None = None) -> bool:
    known = (VALIDATION, TRAINING, *_ASIDE)
    return row["signal"] not in known and data in (None, row["data"])


def _count(found: Found, regime: str) -> str:
    count = len(found.settings[regime])
    return f"{count} setting{'' if count == 1 else 's'}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _listed(items: Iterable[object]) -> str:
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last
