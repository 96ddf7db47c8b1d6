"""Three sentences that say what a study found, with their numbers and intervals."""

from typing import Any

import pandas as pd

from gentheory.report.analysis import Analysis, analyse
from gentheory.report.numbers import interval, size, tau
from gentheory.report.population import ALL, MIN_MODELS
from gentheory.report.ranking import GAP_BASELINES, TRAINING_LOSS, criterion
from gentheory.stats import kendall
from gentheory.study.tables import Tables

Row = dict[str, Any]


def findings(tables: Tables, *, num_resamples: int = 1000, seed: int = 0) -> list[str]:
    """Exactly three sentences: rank of the gap, rank of the test loss, size of the predicted gap.

    They are about `tic.exact`, or the first TIC of the study where that was not measured.
    Brackets hold 95 % bootstrap intervals. "Ahead", "better", "behind" and
    "worse" are said only where the paired interval of the difference excludes 0. Raises
    `InputError` for tables without a model, a measure or a column that a report needs.
    """
    return sentences(analyse(tables, num_resamples=num_resamples, seed=seed))


def sentences(analysis: Analysis) -> list[str]:
    """`findings` of tables that are analysed already."""
    if analysis.main is None:
        return _without_tic(analysis)
    main = analysis.main
    return [_gap_rank(analysis, main), _loss_rank(analysis, main), _size(analysis, main)]


def standing(row: Row) -> str:
    """Where a predictor stands by the paired interval: "ahead of", "behind", "no better than"."""
    if row["lead.low"] > 0:
        return "ahead of"
    return "behind" if row["lead.high"] < 0 else "no better than"


def _gap_rank(analysis: Analysis, main: str) -> str:
    rows = _rows(analysis.correlations, main)
    overall = rows[ALL]
    if overall["note"]:
        return f"{main} cannot be ranked against the gap: {_obstacle(overall)}."
    parts = [
        f"{main} ranks the gap of {overall['count']} models with Kendall τ = "
        f"{interval(overall, 'kendall')}, {standing(overall)} the better trivial baseline "
        f"({overall['rival']}, {interval(overall, 'rival_tau')}), and with a partial τ of "
        f"{interval(overall, 'partial_kendall')} given the training loss",
        *_tally(rows, "ahead of their better baseline", "behind"),
        *_reversals(analysis, main, rows),
    ]
    return "; ".join(parts) + "."


def _loss_rank(analysis: Analysis, main: str) -> str:
    rows = _rows(analysis.criteria, criterion(main))
    overall = rows[ALL]
    if overall["note"]:
        return f"Whether {main} helps to rank the test loss is open: {_obstacle(overall)}."
    better = {"ahead of": "better than", "behind": "worse than"}
    parts = [
        f"Training loss plus {main} ranks the test loss "
        f"{better.get(standing(overall), 'no better than')} the training loss alone: Kendall "
        f"τ = {interval(overall, 'kendall')} against {interval(overall, 'rival_tau')}",
        *_tally(rows, "better", "worse"),
    ]
    return "; ".join(parts) + "."


def _size(analysis: Analysis, main: str) -> str:
    rows = _rows(analysis.sizes, main)
    overall = rows.pop(ALL)
    if overall["note"]:
        return f"The size of {main} cannot be compared with the gap: {_obstacle(overall)}."
    text = f"The median of {main} is {interval(overall, 'ratio', size)} times the median gap"
    within = {name: row for name, row in rows.items() if not row["note"]}
    if len(within) < 2:
        return f"{text}."
    by_ratio = sorted(within, key=lambda name: within[name]["ratio"])
    least, most = by_ratio[0], by_ratio[-1]
    return (
        f"{text} over all models, and within settings between "
        f"{interval(within[least], 'ratio', size)} ({least}) and "
        f"{interval(within[most], 'ratio', size)} ({most})."
    )


def _tally(rows: dict[str, Row], ahead: str, behind: str) -> list[str]:
    """In how many settings the paired interval excludes 0, and on which side."""
    stands = [standing(row) for name, row in rows.items() if name != ALL and not row["note"]]
    if not stands:
        return []
    counts = [str(stands.count(stand) or "none") for stand in ("ahead of", "behind")]
    return [
        f"within settings it is {ahead} in {counts[0]} of {len(stands)} and {behind} in {counts[1]}"
    ]


def _reversals(analysis: Analysis, main: str, rows: dict[str, Row]) -> list[str]:
    """Settings in which TIC ranks the gap backwards beyond doubt, and what it follows there."""
    frames = dict(analysis.population.groups())
    within = [name for name in frames if name != ALL] or [ALL]
    backward = [name for name in within if rows[name]["kendall.high"] < 0]
    if not backward:
        return []
    only = analysis.population.settings[0]
    cases = [
        f"{only if name == ALL else name} (τ = {tau(rows[name]['kendall'])})" for name in backward
    ]
    known = [frames[name].dropna(subset=[main]) for name in backward]
    losses = [kendall(frame[main], frame["train_loss"]) for frame in known]
    follows = f" (τ with it {_span(losses)})" if min(losses) > 0 else ""
    why = (
        ", where it falls with the training loss, as the residuals it is built from vanish"
        if follows
        else ""
    )
    return [f"it ranks backwards in {_and(cases)}{why}{follows}"]


def _span(values: list[float]) -> str:
    low, high = tau(min(values)), tau(max(values))
    return low if low == high else f"{low} to {high}"


def _without_tic(analysis: Analysis) -> list[str]:
    """The three sentences of a study that measured no predicted gap: the baselines alone."""
    gap, loss = _rows(analysis.correlations), _rows(analysis.criteria, TRAINING_LOSS)[ALL]
    known = {name: gap[name] for name in GAP_BASELINES if not gap[name]["note"]}
    best = max(known, key=lambda name: known[name]["kendall"], default=None)
    ranked = f"{best}, ranks it with Kendall τ = {interval(known[best], 'kendall')}" if best else ""
    return [
        "No TIC was measured, so none can be compared with the trivial baselines of the gap"
        + (f", the better of which, {ranked}." if best else "."),
        "No TIC was measured to be added to the training loss"
        + (
            "."
            if loss["note"]
            else f", which alone ranks the test loss with Kendall τ = {interval(loss, 'kendall')}."
        ),
        "No TIC was measured, so there is no predicted gap whose size could be judged.",
    ]


def _rows(table: pd.DataFrame, predictor: str | None = None) -> dict[str, Row]:
    """The rows of one predictor by setting, or those of all models by predictor."""
    by, only, value = (
        ("setting", "predictor", predictor) if predictor else ("predictor", "setting", ALL)
    )
    return {row[by]: row for row in table.to_dict(orient="records") if row[only] == value}


def _obstacle(row: Row) -> str:
    if row["note"] == "too few":
        return f"it has a number for {row['count']} ranked models, and {MIN_MODELS} are needed"
    if row["note"] == "constant":
        return f"it or its target is the same for all {row['count']} models"
    return f"the median gap is {tau(row['median_gap'])}, not positive"


def _and(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
