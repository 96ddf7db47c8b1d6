"""What a study over many axes found, in sentences: ranks along axes, sign errors, baselines."""

import math
from typing import Any

import numpy as np
import pandas as pd

from gentheory.report.analysis import Analysis
from gentheory.report.axes import INFORMATION, MEAN
from gentheory.report.design import ORACLE, RANDOM, TARGETS
from gentheory.report.numbers import interval, tau
from gentheory.report.ranking import PARAMETERS

Row = dict[str, Any]

_ALWAYS_WRONG = 1 - 1e-9


def axis_sentences(analysis: Analysis) -> list[str]:
    """Ranks along axes, environments, the parameter count, and the lead over the baselines.

    They are about the gap in error where that has numbers, else about the gap in loss; none
    where the study is no grid of two axes or more.
    """
    summary = analysis.environments.summary
    there = set(summary.loc[(summary["kind"] != "baseline") & (summary["note"] == ""), "target"])
    target = next((name for name in reversed(TARGETS) if name in there), None)
    if target is None:
        return []
    found = [_ranks(analysis, target), _signs(analysis, target), _environments(analysis, target)]
    found += [_parameters(analysis, target), _baselines(analysis, target)]
    return [sentence for sentence in found if sentence]


def _ranks(analysis: Analysis, target: str) -> str:
    table = _of(analysis.granulated, target)
    means, least = (_column(table, axis) for axis in (MEAN, INFORMATION))
    own = _measures(means)
    if not own:
        return ""
    best = max(own, key=lambda row: row["psi"])
    above, below = (sum(_side(row, "psi") == side for row in own) for side in (1, -1))
    text = (
        f"Along {_axes(table)}, {best['predictor']} ranks the {TARGETS[target]} best, with "
        f"{MEAN} = {interval(best, 'psi')}; {MEAN} is beyond doubt above 0 for {above} of "
        f"{len(own)} measures and below for {below}"
    )
    known = _measures(least)
    if known:
        most = max(known, key=lambda row: row["psi"])
        text += f"; {most['predictor']} has the highest {INFORMATION}, {interval(most, 'psi')}"
    return f"{text}."


def _signs(analysis: Analysis, target: str) -> str:
    """Measures whose ψ is beyond doubt positive along one axis and negative along another."""
    table = _of(analysis.granulated, target)
    table = table.loc[~table["axis"].isin([MEAN, INFORMATION]) & (table["kind"] != "baseline")]
    rows = [row for row in _records(table) if not math.isnan(row["psi"])]
    names = list(dict.fromkeys(row["predictor"] for row in rows))
    flips: dict[str, tuple[Row, Row]] = {}
    for name in names:
        own = [row for row in rows if row["predictor"] == name and _side(row, "psi")]
        ends = [extreme(own, key=lambda row: row["psi"]) for extreme in (max, min) if own]
        if ends and ends[0]["psi"] > 0 > ends[1]["psi"]:
            flips[name] = ends[0], ends[1]
    if not flips:
        return f"No measure of {len(names)} has a ψ beyond doubt of either sign along two axes."
    name = max(flips, key=lambda name: flips[name][0]["psi"] - flips[name][1]["psi"])
    more, less = flips[name]
    return (
        f"The sign of {len(flips)} of {len(names)} measures is beyond doubt another along one axis "
        f"than along another, most of all that of {name}: ψ = {tau(more['psi'])} along "
        f"{_word(more['axis'])} and {tau(less['psi'])} along {_word(less['axis'])}."
    )


def _environments(analysis: Analysis, target: str) -> str:
    rows = [row for row in _records(_of(analysis.environments.summary, target))]
    own = [row for row in rows if row["kind"] != "baseline" and row["environments"]]
    if not own:
        return ""
    wrong = sum(row["worst"] > _ALWAYS_WRONG for row in own)
    either = sum(row["worst"] > _ALWAYS_WRONG and row["least"] < 1 - _ALWAYS_WRONG for row in own)
    best = min(own, key=lambda row: row["mean"])
    count, dropped = best["environments"], best["dropped"]
    text = (
        f"In the worst of {count} environments ({dropped} too noisy ones dropped) the sign error "
        f"is 1 for {wrong} of {len(own)} measures, and for {either} with either sign; the lowest "
        f"mean is that of {best['predictor']}, {interval(best, 'mean')}"
    )
    for name in (RANDOM, ORACLE):
        row = next((row for row in rows if row["predictor"] == name), None)
        if row is not None and row["environments"]:
            text += f", {name} {interval(row, 'mean')}"
    return f"{text}."


def _parameters(analysis: Analysis, target: str) -> str:
    """Along which axes the parameter count orders anything, and how it errs there."""
    errors = _of(analysis.environments.errors, target)
    errors = errors.loc[errors["predictor"] == PARAMETERS].dropna(subset=["sign_error"])
    groups = {str(axis): np.asarray(own["sign_error"]) for axis, own in errors.groupby("axis")}
    means = [
        f"{tau(float(values.mean()))} along {_word(axis)}"
        for axis, values in groups.items()
        if (values != 0.5).any()
    ]
    if not means:
        return ""
    return f"The {PARAMETERS}'s sign error is {' and '.join(means)}, and a tie along all else."


def _baselines(analysis: Analysis, target: str) -> str:
    own = _measures(_of(analysis.pooled, target), "kendall")
    if not own:
        return ""
    ahead = [row for row in own if _side(row, "lead") == 1]
    behind = sum(_side(row, "lead") == -1 for row in own)
    sure = sum(row["p"] < 0.05 for row in own)
    rival = own[0]["rival"]
    line = next(row for row in _records(_of(analysis.pooled, target)) if row["predictor"] == rival)
    text = (
        f"Over all axes together the best trivial baseline, {rival}, has τ = "
        f"{interval(line, 'kendall')} with the {TARGETS[target]}; {len(ahead)} of {len(own)} "
        f"measures are ahead of it and {behind} behind, while τ differs from 0 for {sure} after "
        "Holm's correction"
    )
    if ahead:
        best = max(ahead, key=lambda row: row["lead"])
        text += f"; the furthest ahead is {best['predictor']}, by {interval(best, 'lead')}"
    return f"{text}."


def _side(row: Row, name: str) -> int:
    """1 or -1 where the interval lies on that side of 0, else 0."""
    return int(row[f"{name}.low"] > 0) - int(row[f"{name}.high"] < 0)


def _measures(table: pd.DataFrame, name: str = "psi") -> list[Row]:
    rows = _records(table.loc[table["kind"] != "baseline"])
    return [row for row in rows if not math.isnan(row[name])]


def _axes(table: pd.DataFrame) -> str:
    names = [axis for axis in dict.fromkeys(table["axis"]) if axis not in (MEAN, INFORMATION)]
    words = [_word(axis) for axis in names]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _word(axis: str) -> str:
    return axis.replace("_", " ")


def _of(table: pd.DataFrame, target: str) -> pd.DataFrame:
    return table.loc[table["target"] == target]


def _column(table: pd.DataFrame, axis: str) -> pd.DataFrame:
    return table.loc[table["axis"] == axis]


def _records(table: pd.DataFrame) -> list[Row]:
    return table.to_dict(orient="records")
