"""Claims, and the numbers they are about, as grids of cells."""

import math
from typing import Any

import pandas as pd

from gentheory.report.grids import Cell, Grid
from gentheory.report.numbers import bounds, size, tau
from gentheory.report.verdicts import AGREES, DISAGREES


def claim_grid(claims: pd.DataFrame) -> Grid | None:
    """What was claimed, what was measured, and whether they agree; none where nothing was."""
    rows = [_claim(row) for row in _records(claims)]
    header = [Cell(text) for text in ("claim", "number", "expected", "measured", "verdict")]
    caption = "Agrees: the whole 95 % interval is as expected; disagrees: none of it is."
    drawn = [bool(repeats) for repeats in claims["repeats"]]
    if not all(drawn):
        caption += " A rank correlation is a mean over settings, each with equal weight."
    if any(drawn):
        caption += (
            " Other numbers are means over models; their bootstrap draws the seeds, which models "
            "under comparison share, and so covers initialization and batches, not the data."
        )
    return Grid("claims", "Claims", caption, header, rows, words=True) if rows else None


def configuration_grid(table: pd.DataFrame) -> Grid | None:
    """Means of the quantities that claims and figures name, a row a configuration."""
    if table.empty:
        return None
    records = _records(table)
    names = list(dict.fromkeys(row["quantity"] for row in records))
    rows: list[list[Cell]] = []
    for label in dict.fromkeys(row["configuration"] for row in records):
        own = {row["quantity"]: row for row in records if row["configuration"] == label}
        count = next(iter(own.values()))["models"]
        head = Cell(label, (f"{count} models",))
        rows.append([head, *(_mean(own[name]) for name in names)])
    return Grid(
        "configurations",
        "What was measured at the end of training",
        "Means over the models of a configuration, which differ in their seeds alone, with 95 % "
        "intervals where there are enough of them.",
        [Cell("configuration"), *(Cell(name.replace("_", " ")) for name in names)],
        rows,
    )


def _claim(row: dict[str, Any]) -> list[Cell]:
    write = size if row["repeats"] else tau
    says = Cell(row["says"], tuple(filter(None, [row["source"], row["why"]])))
    measured = Cell("–", muted=True)
    if not math.isnan(row["value"]):
        measured = Cell(write(row["value"]), (bounds(row, "value", write),))
    counts = f"{row['models']} models, {row['settings']} settings"
    if row["repeats"]:
        counts = f"{row['models']} models, {row['repeats']} seeds"
    verdict = Cell(row["verdict"], strong=row["verdict"] in (AGREES, DISAGREES))
    number = Cell(row["number"], tuple(filter(None, [counts, row["note"]])))
    return [says, number, Cell(row["expected"]), measured, verdict]


def _mean(row: dict[str, Any]) -> Cell:
    if math.isnan(row["mean"]):
        return Cell("–", muted=True)
    return Cell(size(row["mean"]), tuple(filter(None, [bounds(row, "mean", size)])))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
