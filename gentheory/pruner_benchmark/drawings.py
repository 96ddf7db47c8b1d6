"""The figures of the page."""

from functools import partial

import pandas as pd

from gentheory.plots.along_training import MAX_PANELS, along_training
from gentheory.plots.paired_bars import paired_bars
from gentheory.plots.regret_curves import regret_curves
from gentheory.pruner_benchmark.arms import BOUNDED, RANDOM, REFITTED, TIME, VALIDATION
from gentheory.pruner_benchmark.bases import BASES
from gentheory.pruner_benchmark.findings import (
    MAIN_BASES,
    REGIMES,
    TARGET_WORDS,
    Found,
    standing,
)
from gentheory.report.pictures import Picture, picture_of

_UNITS = {"test_loss": "units of the loss", "test_error": "fraction of the examples"}
_MAIN = (*MAIN_BASES, "Median")


def drawings(found: Found) -> list[Picture]:
    """Regret under the main pruners and in every setting, paired differences, tau by epoch."""
    drawn = [_main(found)]
    drawn += [_regret(found, regime, "test_loss") for regime in found.settings]
    drawn += [_settings(found, base) for base in MAIN_BASES]
    drawn += [_bars(found, target) for target in TARGET_WORDS]
    return [*drawn, _taus(found)]


def _main(found: Found) -> Picture:
    table = _spread(_shown(found.curves, found.workers, "test_loss"))
    table = table.loc[table["base"].isin(MAIN_BASES) & table["scope"].isin(list(found.settings))]
    panel = [f"{base}, {scope}" for base, scope in zip(table["base"], table["scope"], strict=True)]
    quantity = _quantity("test_loss")
    return picture_of(
        partial(regret_curves, table.assign(panel=panel), quantity=quantity, columns=2, width=8.0),
        "regret",
        f"Regret against budget under {' and '.join(MAIN_BASES)}",
        "Mean simple regret of the test loss over a regime's settings and all orders, with 95 % "
        "intervals, one worker, inside the NTK regime (lazy) and outside it (rich). "
        f"{_budget(found)}",
        f"Curves of the mean regret of {table['series'].nunique()} signals under "
        f"{' and '.join(MAIN_BASES)}, by regime.",
    )


def _regret(found: Found, regime: str, target: str) -> Picture:
    table = _spread(_shown(found.curves, found.workers, target))
    table = table.loc[(table["scope"] == regime)].assign(panel=lambda own: own["base"])
    bases = [base for base in BASES if base in set(table["base"])]
    table = pd.concat([table.loc[table["base"] == base] for base in bases])
    return picture_of(
        partial(regret_curves, table, quantity=_quantity(target)),
        f"regret_{regime}",
        f"Regret against budget, {REGIMES[regime]}",
        f"Mean simple regret of the {TARGET_WORDS[target]} over the regime's settings and all "
        f"orders, with 95 % intervals, one worker, one panel a pruner. {_budget(found)}",
        f"Curves of the mean regret of {table['series'].nunique()} signals under {len(bases)} "
        "pruners; the tables have their areas and their values at 10, 25, 50 and 100 %.",
    )


def _settings(found: Found, base: str) -> Picture:
    table = _spread(_shown(found.curves, found.workers, "test_loss"))
    settings = [name for names in found.settings.values() for name in names][:MAX_PANELS]
    table = table.loc[(table["base"] == base) & table["scope"].isin(settings)]
    table = table.assign(panel=table["scope"])
    return picture_of(
        partial(regret_curves, table, quantity=_quantity("test_loss")),
        f"regret_settings_{MAIN_BASES.index(base)}",
        f"Regret against budget in every setting, {base}",
        "Mean simple regret of the test loss over all orders, with 95 % intervals, one worker.",
        f"Curves of the mean regret under {base} in {len(settings)} settings.",
    )


def _bars(found: Found, target: str) -> Picture:
    table = found.differences
    kept = (table["workers"] == found.workers) & (table["metric"] == f"{target}.area")
    kept &= (table["rival"] == VALIDATION) & table["base"].isin(_MAIN)
    kept &= table["scope"].isin(list(found.settings)) & ~table["signal"].isin([RANDOM, TIME])
    rows = table.loc[kept]
    rows = rows.rename(columns={"difference.low": "low", "difference.high": "high", "arm": "name"})
    rows = rows.assign(
        panel=[f"{base}, {scope}" for base, scope in zip(rows["base"], rows["scope"], strict=True)],
        certain=[standing(row) != "open" for row in table.loc[kept].to_dict(orient="records")],
    )
    words = TARGET_WORDS[target]
    return picture_of(
        partial(paired_bars, rows, quantity=f"difference of regret ({_UNITS[target]})", columns=3),
        f"differences_{target}",
        f"Against validation-loss pruning: regret of the {words}",
        "Regret over all budgets less that of validation-loss pruning on the same orders, with "
        "95 % intervals, one worker. Filled: Holm's p over the arms is below 0.05.",
        f"Bars of the paired differences of {rows['name'].nunique()} signals; the tables have the "
        "same numbers.",
        narrow={"columns": 1, "width": 3.9},
    )


def _taus(found: Found) -> Picture:
    settings = [name for names in found.settings.values() for name in names][:MAX_PANELS]
    table = _series(found.taus)
    table = table.loc[(table["target"] == "test_loss") & table["scope"].isin(settings)]
    names = {"scope": "panel", "kendall": "value", "kendall.low": "low", "kendall.high": "high"}
    table = table.drop(columns="arm").rename(columns=names)
    quantity = "Kendall's τ with the final test loss"
    return picture_of(
        partial(along_training, table, quantity=quantity, limits=(-0.3, 1.05)),
        "tau",
        "What ranks the final test loss, epoch by epoch",
        "Kendall's τ of each signal with the test loss at the end of the training, over "
        "configurations and seeds, with 95 % intervals from resampled configurations.",
        f"Kendall's tau along {table['epoch'].nunique()} epochs in {len(settings)} settings.",
    )


def _series(table: pd.DataFrame) -> pd.DataFrame:
    """The validation loss, and what the others see of all the data."""
    data = "all" if "all" in set(map(str, table["data"])) else "training"
    kept = table["signal"].isin([VALIDATION, REFITTED]) | (table["data"] == data)
    kept &= (table["signal"] != TIME) & ~table["signal"].isin(_unbounded(table))
    return table.loc[kept].assign(series=table.loc[kept, "arm"])


def _shown(table: pd.DataFrame, workers: int, target: str) -> pd.DataFrame:
    kept = (table["workers"] == workers) & (table["target"] == target)
    return _series(table.loc[kept])


def _unbounded(table: pd.DataFrame) -> list[str]:
    """Criteria that have a bounded form too, which the curves show in their place."""
    signals = set(map(str, table["signal"]))
    return [signal.removesuffix(BOUNDED) for signal in signals if signal.endswith(BOUNDED)]


def _spread(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each budget of the curves."""
    columns = ["budget", "regret", "regret.low", "regret.high"]
    spread = table.explode(columns, ignore_index=True)
    spread = spread.rename(columns={"regret.low": "low", "regret.high": "high"})
    return spread.astype({name: float for name in ("budget", "regret", "low", "high")})


def _budget(found: Found) -> str:
    return f"The budget {'includes' if found.charged else 'leaves out'} what the signals cost."


def _quantity(target: str) -> str:
    return f"regret of the {TARGET_WORDS[target]} ({_UNITS[target]})"
