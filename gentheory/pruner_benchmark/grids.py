"""The numbers of a comparison as tables of the page."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from gentheory.plots.style import unbroken
from gentheory.pruner_benchmark.arms import (
    BOUNDED,
    ORACLE,
    RANDOM,
    REFITTED,
    TIME,
    TRAINING,
    VALIDATION,
    Arm,
    look_cost,
)
from gentheory.pruner_benchmark.bases import BASES, LOOKING_AT_RUNGS
from gentheory.pruner_benchmark.benchmark import Outcome
from gentheory.pruner_benchmark.curves import Table
from gentheory.pruner_benchmark.findings import MAIN_BASES, REGIMES, Found, beyond, standing
from gentheory.pruner_benchmark.ranking import RUNGS
from gentheory.report.grids import Cell, Grid
from gentheory.report.numbers import bounds, probability, size, tau

Row = dict[str, Any]
_BASELINES = (VALIDATION, REFITTED, TRAINING, TIME, RANDOM, ORACLE)
_WHAT = {
    "test_loss.area": "regret of the test loss, over all budgets",
    "test_loss.10": "regret of the test loss, 10 % of the budget",
    "test_loss.25": "regret of the test loss, 25 % of the budget",
    "test_loss.50": "regret of the test loss, 50 % of the budget",
    "test_loss.100": "regret of the test loss, the whole budget",
    "test_error.area": "regret of the test error, over all budgets",
    "test_error.10": "regret of the test error, 10 % of the budget",
    "test_error.25": "regret of the test error, 25 % of the budget",
    "test_error.50": "regret of the test error, 50 % of the budget",
    "test_error.100": "regret of the test error, the whole budget",
}
_PAIRED = (
    "Less that of validation-loss pruning on the same orders, so negative, blue, is better. Bold: "
    "Holm's p over the arms is below 0.05; † also more than 1.96 times an upper bound for the "
    "standard error over another draw of configurations."
)


def setting_grid(outcome: Outcome) -> Grid:
    """What the table of curves holds, and what a look costs."""
    arms = [arm for name in outcome.tables for arm in outcome.arms(name) if arm.is_criterion]
    # Bounded ones are made of the same measurements.
    signals = list(dict.fromkeys(a.signal for a in arms if not a.signal.endswith(BOUNDED)))
    rows = [_setting(table, signals) for table in outcome.tables.values()]
    names = ["setting", "regime", "parameters an example", "configurations", "seeds", "epochs"]
    names += ["criteria after epochs", "diverged", "epoch on all data", "validation pass", *signals]
    caption = (
        "Costs are medians in epoch-equivalents: one is the median epoch of a model of the setting "
        "on the training examples."
    )
    return Grid("settings", "Settings", caption, [Cell(name) for name in names], rows)


def _setting(table: Table, signals: list[str]) -> list[Cell]:
    training = table.columns["training"]
    lost = ~np.isfinite(training["train_loss"][:, :, -1]) & table.present
    cells = [table.regime, f"{table.params_per_example:.3g}", str(len(table.configs))]
    cells += [str(table.present.shape[1]), str(table.horizon)]
    cells.append(_epochs(table, signals))
    cells.append(f"{100 * lost.sum() / max(1, table.present.sum()):.1f} %")
    known = "all" in table.columns
    cells.append(size(float(np.median(table.cost("all", "epoch_seconds")))) if known else "–")
    cells.append(size(float(np.median(table.cost("training", "validation_seconds")))))
    data = "all" if known else "training"
    costs = [float(np.median(look_cost(table, Arm(signal, data)))) for signal in signals]
    return [Cell(table.setting), *map(Cell, cells), *(Cell(size(cost)) for cost in costs)]


def _epochs(table: Table, signals: list[str]) -> str:
    """After which epochs there is any criterion."""
    columns = [table.columns["training"][signal] for signal in signals]
    if not columns:
        return "–"
    known = np.any([np.isfinite(column).any(axis=(0, 1)) for column in columns], axis=0)
    return "all" if known.all() else ", ".join(str(place + 1) for place in np.flatnonzero(known))


def standing_grids(found: Found) -> list[Grid]:
    """For each regime and target the area under every pruner, against the validation loss."""
    grids: list[Grid] = []
    for regime in found.settings:
        for metric in ("test_loss.area", "test_error.area"):
            rows = _chosen(found.differences, found.workers, metric, scope=[regime])
            title = f"{_WHAT[metric].capitalize()}, {REGIMES[regime]}"
            name = f"standing-{regime}-{metric.partition('.')[0]}"
            grids.append(_matrix(name, title, _PAIRED, rows, list(BASES), "base", _difference))
    return grids


def setting_grids(found: Found) -> list[Grid]:
    """For each main pruner and number the settings side by side."""
    settings = [name for names in found.settings.values() for name in names]
    return [
        _matrix(
            f"setting-{place}-{metric.replace('.', '-')}",
            f"{base}: {_WHAT[metric]}",
            _PAIRED,
            _chosen(found.differences, found.workers, metric, base=[base], scope=settings),
            settings,
            "scope",
            _difference,
        )
        for place, base in enumerate(MAIN_BASES)
        for metric in _WHAT
    ]


def level_grids(found: Found) -> list[Grid]:
    """Regrets themselves, false pruning, costs: regimes by main pruner."""
    kinds = [(metric, _WHAT[metric], size) for metric in ("test_loss.25", "test_error.25")]
    kinds += [
        ("false.1", "Pruned of the best 1 % of the trials", _percent),
        ("false.10", "Pruned of the best 10 % of the trials", _percent),
        ("cost", "Cost of the whole study, epoch-equivalents", lambda value: f"{value:.0f}"),
        ("measuring", "Part of the cost that the signal takes", _percent),
    ]
    scopes, grids = list(found.settings), list[Grid]()
    for metric, words, write in kinds:
        rows = _chosen(found.levels, found.workers, metric, scope=scopes)
        rows = [dict(row, column=f"{row['scope']}, {row['base']}") for row in rows]
        columns = [f"{scope}, {base}" for scope in scopes for base in BASES]
        title, name = words[0].upper() + words[1:], f"level-{metric.replace('.', '-')}"
        grids.append(_matrix(name, title, "", rows, columns, "column", _level("mean", write)))
    return grids


def worker_grids(found: Found, workers: tuple[int, ...]) -> list[Grid]:
    """More simulated workers: the difference of the area, and the clock at the end."""
    grids: list[Grid] = []
    for regime in found.settings:
        keys = [f"{base}, {count} workers" for base in LOOKING_AT_RUNGS for count in workers]
        areas = [
            dict(row, column=f"{row['base']}, {row['workers']} workers")
            for count in workers
            for row in _chosen(found.differences, count, "test_loss.area", scope=[regime])
        ]
        walls = [
            dict(row, column=f"{row['base']}, {row['workers']} workers")
            for count in workers
            for row in _chosen(found.levels, count, "wall", scope=[regime])
        ]
        title = f"{_WHAT['test_loss.area'].capitalize()}, {REGIMES[regime]}"
        name, write = f"workers-{regime}", _level("mean", lambda value: f"{value:.0f}")
        grids.append(_matrix(name, title, _PAIRED, areas, keys, "column", _difference))
        title = f"Wall time of the study in epoch-equivalents, {REGIMES[regime]}"
        grids.append(_matrix(f"wall-{regime}", title, "", walls, keys, "column", write))
    return grids


def saving_grids(found: Found) -> list[Grid]:
    """Budget saved at equal regret."""
    caption = (
        "Part of the budget that is left when the mean regret is as low as validation-loss "
        "pruning's with the budget of the column; negative: more is needed. Dash: never as low."
    )
    grids: list[Grid] = []
    for regime in found.settings:
        for base in MAIN_BASES:
            table = found.savings
            kept = (table["scope"] == regime) & (table["base"] == base)
            kept &= table["workers"] == found.workers
            rows = [
                dict(row, column=f"{row['target'].replace('_', ' ')}, {100 * row['budget']:.0f} %")
                for row in table.loc[kept].to_dict(orient="records")
            ]
            keys = list(dict.fromkeys(row["column"] for row in rows))
            title = f"Budget saved at equal regret, {base}, {REGIMES[regime]}"
            name = f"saved-{regime}-{MAIN_BASES.index(base)}"
            write = _level("saved", _percent)
            grids.append(_matrix(name, title, caption, rows, keys, "column", write))
    return grids


def tau_grids(found: Found) -> list[Grid]:
    """Kendall's tau at the rungs: with both targets in the regimes, with the loss everywhere."""
    grids: list[Grid] = []
    scopes = [*found.settings, *(name for names in found.settings.values() for name in names)]
    caption = (
        "Bold: the paired lead over the validation loss has a Holm-adjusted p below 0.05 over the "
        "signals. Below: that lead, and the lead over the training loss on the same data."
    )
    for target, words in (("test_loss", "test loss"), ("test_error", "test error")):
        for epoch in RUNGS:
            table = found.taus
            kept = (table["target"] == target) & (table["epoch"] == epoch)
            rows = table.loc[kept].to_dict(orient="records")
            title = f"Kendall's τ with the final {words} after epoch {epoch}"
            name = f"tau-{target}-{epoch}"
            if rows:
                grids.append(_matrix(name, title, caption, rows, scopes, "scope", _tau))
    return grids


def _chosen(
    table: pd.DataFrame, workers: int, metric: str, **wanted: list[str]
) -> list[dict[str, Any]]:
    kept = (table["workers"] == workers) & (table["metric"] == metric)
    for column, values in wanted.items():
        kept &= table[column].isin(values)
    if "rival" in table.columns:
        kept &= table["rival"] == VALIDATION
    return table.loc[kept].to_dict(orient="records")


def _matrix(
    name: str,
    title: str,
    caption: str,
    rows: Iterable[Row],
    columns: list[str],
    key: str,
    write: Callable[[Row, float], Cell],
) -> Grid:
    """Arms down, the values of `key` across; shades are relative to the table's largest."""
    arms: dict[str, dict[str, Row]] = {}
    for row in rows:
        arms.setdefault(row["arm"], {})[row[key]] = row
    values = [abs(row.get("difference", math.nan)) for own in arms.values() for row in own.values()]
    largest = max((value for value in values if math.isfinite(value)), default=0.0) or 1.0
    lines = [
        [Cell(unbroken(arm), muted=next(iter(own.values()))["signal"] in _BASELINES)]
        + [write(own[c], largest) if c in own else Cell("–", muted=True) for c in columns]
        for arm, own in arms.items()
    ]
    return Grid(name, title, caption, [Cell("signal"), *map(Cell, columns)], lines)


def _difference(row: Row, largest: float) -> Cell:
    value = row["difference"]
    if math.isnan(value):
        return Cell("–", muted=True)
    told = standing(row) != "open"
    detail = [bounds(row, "difference", size)]
    if not math.isnan(row["holm"]):
        detail.append(f"p {probability(row['holm'])}")
    mark = " †" if told and beyond(row) else ""
    return Cell(size(value) + mark, tuple(detail), round(-value / largest, 3), told)


def _level(name: str, write: Callable[[float], str]) -> Callable[[Row, float], Cell]:
    def cell(row: Mapping[str, Any], _: float) -> Cell:
        if math.isnan(row[name]):
            return Cell("–", muted=True)
        return Cell(write(row[name]), (bounds(row, name, write),))

    return cell


def _tau(row: Row, _: float) -> Cell:
    if math.isnan(row["kendall"]):
        return Cell("–", muted=True)
    leads = [
        f"{tau(row[rival])} {bounds(row, rival)}"
        for rival in (VALIDATION, TRAINING)
        if not math.isnan(row[rival])
    ]
    strong = row[f"{VALIDATION}.holm"] < 0.05
    return Cell(tau(row["kendall"]), tuple(leads), round(row["kendall"], 3), bool(strong))


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %".replace("-", "−")
