"""A few sentences that say what a study found, with their numbers and intervals."""

import math
from typing import Any

import pandas as pd

from gentheory.report.analysis import Analysis, analyse
from gentheory.report.axis_findings import axis_sentences
from gentheory.report.numbers import interval, size, tau
from gentheory.report.population import MIN_MODELS
from gentheory.report.ranking import GAP_BASELINES, TRAINING_LOSS, criterion
from gentheory.stats import kendall
from gentheory.study.tables import Tables

Row = dict[str, Any]


def findings(tables: Tables, *, num_resamples: int = 1000, seed: int = 0) -> list[str]:
    """Three sentences: rank of the gap, rank of the test loss, size of the predicted gap.

    Where rivals were trained, two more follow: the standing against each of them, and what
    choosing a model by each criterion costs. They are about the predicted gap that the study
    names, else `tic.exact`, or the first TIC where that was not measured; and, where the study
    has set settings apart for its choices, about the other settings alone. Those of
    `axis_sentences` follow, or stand first where no gap is predicted. Brackets hold 95 %
    bootstrap intervals. "Ahead", "better", "behind" and "worse" are said only where the paired
    interval of the difference excludes 0. Raises `InputError` for tables without a model, a
    measure or a column that a report needs.
    """
    return sentences(analyse(tables, num_resamples=num_resamples, seed=seed))


def sentences(analysis: Analysis) -> list[str]:
    """`findings` of tables that are analysed already."""
    if analysis.main is None:
        return [*axis_sentences(analysis), *_without_tic(analysis)]
    main = analysis.main
    found = [_gap_rank(analysis, main), _loss_rank(analysis, main), _size(analysis, main)]
    if analysis.population.rivals:
        found += [_against_rivals(analysis, main), _cost_of_choosing(analysis, main)]
    return found + axis_sentences(analysis)


def standing(row: Row) -> str:
    """Where a predictor stands by the paired interval: "ahead of", "behind", "no better than"."""
    if row["lead.low"] > 0:
        return "ahead of"
    return "behind" if row["lead.high"] < 0 else "no better than"


def _gap_rank(analysis: Analysis, main: str) -> str:
    overall, rows = _rows(analysis, analysis.correlations, main)
    if overall["note"]:
        return f"{main} cannot be ranked against the gap: {_obstacle(overall)}."
    parts = [
        f"{_where(analysis)}{main} ranks the gap of {overall['count']} models with Kendall τ = "
        f"{interval(overall, 'kendall')}, {standing(overall)} the better trivial baseline "
        f"({overall['rival']}, {interval(overall, 'rival_tau')}), and with a partial τ of "
        f"{interval(overall, 'partial_kendall')} given the training loss",
        *_tally(rows, "ahead of their better baseline", "behind"),
        *_reversals(analysis, main, rows or {analysis.population.tested[0]: overall}),
    ]
    return "; ".join(parts) + "."


def _loss_rank(analysis: Analysis, main: str) -> str:
    overall, rows = _rows(analysis, analysis.criteria, criterion(main))
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
    overall, rows = _rows(analysis, analysis.sizes, main)
    if overall["note"]:
        return f"The size of {main} cannot be compared with the gap: {_obstacle(overall)}."
    text = f"The median of {main} is {interval(overall, 'ratio', size)} times the median gap"
    within = {name: row for name, row in rows.items() if not row["note"]}
    if len(within) < 2:
        return f"{text}."
    by_ratio = sorted(within, key=lambda name: within[name]["ratio"])
    least, most = by_ratio[0], by_ratio[-1]
    return (
        f"{text} over {analysis.population.overall}, and within settings between "
        f"{interval(within[least], 'ratio', size)} ({least}) and "
        f"{interval(within[most], 'ratio', size)} ({most})."
    )


def _against_rivals(analysis: Analysis, main: str) -> str:
    """Mean tau over settings of the main criterion, and its lead over each rival's."""
    own = _choice(analysis, criterion(main))
    if own["settings"] == 0:
        return f"Training loss plus {main} cannot be compared with held-out examples: no number."
    parts = [
        f"In the mean over {_settings(analysis, own['settings'])}, training loss plus {main} ranks "
        f"the test loss with τ = {interval(own, 'tau')}, {tau(own['lowest'])} at the least, and "
        f"{main} the gap with a partial τ of {_least_partial(analysis, main)} at the least",
        *(_against(analysis, criterion(main), rival) for rival in analysis.population.rivals),
    ]
    return "; ".join(parts) + "."


def _least_partial(analysis: Analysis, main: str) -> str:
    overall, rows = _rows(analysis, analysis.correlations, main)
    found = [row["partial_kendall"] for row in (rows or {"": overall}).values()]
    known = [value for value in found if not math.isnan(value)]
    return tau(min(known)) if known else "unknown size"


def _against(analysis: Analysis, name: str, rival: str) -> str:
    pair = next(
        row
        for row in analysis.rivalry.to_dict(orient="records")
        if (row["setting"], row["predictor"], row["rival"])
        == (analysis.population.overall, name, rival)
    )
    other = _choice(analysis, rival)
    if not pair["settings"]:
        return f"{rival} has no number to compare with"
    ahead, behind = (f"{int(pair[side])}" for side in ("ahead", "behind"))
    return (
        f"{rival} has {interval(other, 'tau')}, {_less(pair)}, and is beyond doubt behind in "
        f"{ahead} of {int(pair['settings'])} and ahead in {behind}"
    )


def _less(pair: Row) -> str:
    value = pair["difference"]
    word = "less" if value >= 0 else "more"
    sign = 1 if value >= 0 else -1
    ends = sorted(sign * pair[f"difference.{end}"] for end in ("low", "high"))
    bounds = "" if any(map(math.isnan, ends)) else f" [{tau(ends[0])}, {tau(ends[1])}]"
    return f"{tau(abs(value))}{bounds} {word}"


def _cost_of_choosing(analysis: Analysis, main: str) -> str:
    """What the chosen model's test loss is above the best, and how long each criterion takes."""
    names = [TRAINING_LOSS, criterion(main), *analysis.population.rivals]
    parts = [_cost(name, _choice(analysis, name)) for name in names]
    return (
        f"The model that a criterion picks has a test loss above the best of its setting by, in "
        f"the mean: {'; '.join(parts)}."
    )


def _cost(name: str, row: Row) -> str:
    text = f"{interval(row, 'regret', size)} for {name}"
    seconds = row["seconds"]
    return text if math.isnan(seconds) or not seconds else f"{text} ({size(seconds)} s a model)"


def _where(analysis: Analysis) -> str:
    if not analysis.population.development:
        return ""
    return f"On the {_settings(analysis, len(analysis.population.tested))}, "


def _choice(analysis: Analysis, name: str) -> Row:
    records = analysis.choices.to_dict(orient="records")
    return next(row for row in records if row["predictor"] == name)


def _settings(analysis: Analysis, count: int) -> str:
    held_out = "held-out " if analysis.population.development else ""
    return f"{count} {held_out}setting{'' if count == 1 else 's'}"


def _tally(rows: dict[str, Row], ahead: str, behind: str) -> list[str]:
    """In how many settings the paired interval excludes 0, and on which side."""
    stands = [standing(row) for row in rows.values() if not row["note"]]
    if not stands:
        return []
    counts = [str(stands.count(stand) or "none") for stand in ("ahead of", "behind")]
    return [
        f"within settings it is {ahead} in {counts[0]} of {len(stands)} and {behind} in {counts[1]}"
    ]


def _reversals(analysis: Analysis, main: str, rows: dict[str, Row]) -> list[str]:
    """Settings in which TIC ranks the gap backwards beyond doubt, and what it follows there."""
    backward = [name for name, row in rows.items() if row["kendall.high"] < 0]
    if not backward:
        return []
    cases = [f"{name} (τ = {tau(rows[name]['kendall'])})" for name in backward]
    ranked = analysis.population.ranked.dropna(subset=[main])
    known = [ranked.loc[ranked["setting"] == name] for name in backward]
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
    there = set(analysis.correlations["predictor"]).intersection(GAP_BASELINES)
    names = sorted(there, key=GAP_BASELINES.index)
    found = {name: _rows(analysis, analysis.correlations, name)[0] for name in names}
    known = {name: row for name, row in found.items() if not row["note"]}
    loss, _ = _rows(analysis, analysis.criteria, TRAINING_LOSS)
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


def _rows(analysis: Analysis, table: pd.DataFrame, predictor: str) -> tuple[Row, dict[str, Row]]:
    """A predictor's row over all tested settings, and those of each where there are several."""
    records = [row for row in table.to_dict(orient="records") if row["predictor"] == predictor]
    rows = {row["setting"]: row for row in records}
    tested = [name for name in analysis.population.tested if name in rows]
    return rows[analysis.population.overall], {name: rows[name] for name in tested}


def _obstacle(row: Row) -> str:
    if row["note"] == "too few":
        return f"it has a number for {row['count']} ranked models, and {MIN_MODELS} are needed"
    if row["note"] == "constant":
        return f"it or its target is the same for all {row['count']} models"
    return f"the median gap is {tau(row['median_gap'])}, not positive"


def _and(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
