"""The page of a replay: one self-contained HTML file, its figures, and all numbers as JSON."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from gentheory.plots.export import write
from gentheory.pruner_benchmark import compare
from gentheory.pruner_benchmark.benchmark import Outcome
from gentheory.pruner_benchmark.drawings import drawings
from gentheory.pruner_benchmark.findings import Found, sentences
from gentheory.pruner_benchmark.grids import (
    level_grids,
    saving_grids,
    setting_grid,
    setting_grids,
    standing_grids,
    tau_grids,
    worker_grids,
)
from gentheory.pruner_benchmark.means import Means
from gentheory.report.grids import Grid
from gentheory.report.plain import as_json, plain, said, words
from gentheory.report.templates import style, template
from gentheory.study.provenance import provenance

_WHOLE = re.compile(r"(\[[^\]]*\])")
"""What must not break across lines in a finding: intervals."""
_DIGITS = 5
"""Significant digits of the numbers in results.json."""
_EVERY = "The same differences in each setting by itself, one worker."
_RANKING = (
    "Every model is held to its own final test loss or error; those that diverge are left out. "
    "The bootstrap draws whole configurations, with all their seeds."
)
_LEVELS = "Means over the orders and over the settings of a regime, one worker."
_SAVED = "How much sooner a study is as good as one that is pruned by the validation loss."
_WORKERS = "The same studies on more asynchronous workers, by the pruners that look at rungs alone."


@dataclass(frozen=True)
class Page:
    """What was written."""

    path: Path
    """The page, `index.html`; beside it `results.json` and the folder `figures`."""
    findings: tuple[str, ...]
    """The sentences at the top of the page."""


def write_page(outcome: Outcome, about: Mapping[str, Any], out: Path) -> Page:
    """Write what a replay found into the folder `out`, which is made where it is missing.

    `about` says what was replayed, by name, for the provenance. The same outcome gives the same
    numbers and figures. Each file is replaced in one step, the page last.
    """
    found = compared(outcome)
    told, drawn = sentences(found), drawings(found)
    for picture in drawn:
        write(out / "figures" / f"{picture.name}.svg", picture.svg)
        write(out / "figures" / f"{picture.name}.png", picture.png)
    made_with = _made_with(outcome, about)
    results = {"findings": told, **_results(found), "provenance": plain(made_with)}
    write(out / "results.json", as_json(results).encode())
    page = template("pruners.html.jinja").render(
        style=style(),
        findings=[_WHOLE.split(finding) for finding in told],
        design=outcome.design,
        counts=_counts(outcome),
        pictures=drawn,
        settings=setting_grid(outcome),
        standings=standing_grids(found),
        sections=_sections(outcome, found),
        provenance={words(key): said(value) for key, value in made_with.items()},
    )
    return Page(write(out / "index.html", page.encode()), tuple(told))


def compared(outcome: Outcome) -> Found:
    """All tables of the outcome."""
    means = Means(outcome)
    return Found(
        levels=compare.levels(means),
        differences=compare.differences(means),
        curves=compare.curves(means),
        savings=compare.savings(means),
        taus=compare.taus(means),
        settings={scope.label: scope.settings for scope in means.scopes if scope.pooled},
        workers=outcome.design.workers[0],
        charged=outcome.design.charged,
    )


def _sections(outcome: Outcome, found: Found) -> list[tuple[str, str, str, list[Grid]]]:
    """Anchor, title, words and tables of what is folded."""
    return [
        ("every-setting", "Every setting", _EVERY, setting_grids(found)),
        ("ranking", "What ranks the models", _RANKING, tau_grids(found)),
        ("levels", "Regret, false pruning and costs", _LEVELS, level_grids(found)),
        ("saved", "Budget saved", _SAVED, saving_grids(found)),
        ("workers", "More workers", _WORKERS, worker_grids(found, outcome.design.workers[1:])),
    ]


def _counts(outcome: Outcome) -> dict[str, int]:
    runs = len(outcome.design.runs()) * outcome.design.orders
    return {
        "replays": runs * len(outcome.played),
        "models": int(sum(t.present.sum() * len(t.columns) for t in outcome.tables.values())),
        "settings": len(outcome.tables),
        "signals": len({arm.signal for _, arm in outcome.played}),
    }


def _made_with(outcome: Outcome, about: Mapping[str, Any]) -> dict[str, Any]:
    made = provenance()
    made["versions"]["optuna"] = version("optuna")
    return {**about, **asdict(outcome.design), **made}


def _results(found: Found) -> dict[str, Any]:
    """Tables as `columns` and `rows`, the rows under the labels that they share."""
    tables = {
        "levels": found.levels,
        "differences": found.differences,
        "curves": found.curves,
        "savings": found.savings,
        "taus": found.taus,
    }
    keys = ("scope", "base", "workers", "arm", "rival", "target", "metric", "epoch", "budget")
    return {name: _nested(table, keys) for name, table in tables.items()}


def _nested(table: pd.DataFrame, keys: tuple[str, ...]) -> dict[str, Any]:
    numeric = [column for column in table.columns if column not in (*keys, "signal", "data")]
    labels = [key for key in keys if key in table.columns and not _listed(table[key].iloc[0])]
    numeric += [key for key in keys if key in table.columns and key not in labels]
    tree: dict[str, Any] = {}
    for row in table.to_dict(orient="records"):
        place = tree
        for key in labels[:-1]:
            place = place.setdefault(str(row[key]), {})
        place[str(row[labels[-1]])] = [_rounded(row[column]) for column in numeric]
    return {"labels": labels, "numbers": numeric, "rows": tree}


def _listed(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str)


def _rounded(value: Any) -> Any:
    if _listed(value):
        return [_rounded(each) for each in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{_DIGITS}g}")
    return plain(value)
