"""What a page says and shows of the environment kept out of training."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from gentheory.report.grids import Cell, Grid
from gentheory.report.numbers import bounds, interval
from gentheory.report.shift import Row, Shift

_CLAIM = "that adaptive optimizers are no better on shifted data at equal in-distribution accuracy"


def points(value: float) -> str:
    """A share in points, hundredths of 1, to one decimal.

    >>> points(0.1234), points(-0.02)
    ('12.3', '−2.0')
    """
    return f"{100 * value:.1f}".replace("-0.0", "0.0").replace("-", "−")


def shift_sentences(shift: Shift) -> list[str]:
    """The comparison at equal in-distribution accuracy, what each one's best model has, and how
    shifted accuracy grows with it; the first for each data set where both kinds were trained."""
    rows = _records(shift.matched)
    compared = [_compared(row, rows) for row in rows if math.isnan(row["low"])]
    chosen = [_each(data, own, _best) for data, own in shift.chosen.groupby("data", sort=False)]
    returns = [_each(data, own, _grows) for data, own in shift.returns.groupby("data", sort=False)]
    found = list(compared)
    found.append(
        "Shifted accuracy of the model with the best in-distribution accuracy, chosen by that "
        f"alone, in %: {'; '.join(chosen)}."
    )
    if returns:
        found.append(f"Shifted against in-distribution accuracy: {'; '.join(returns)}.")
    return found


def _compared(row: Row, rows: list[Row]) -> str:
    bins = [other for other in rows if other["data"] == row["data"]][1:]
    signs = [_sign(other) for other in bins]
    return (
        f"On {row['data']}, at equal in-distribution accuracy, shifted accuracy under adaptive "
        f"optimizers less that under the others is {interval(row, 'difference', points)} points, "
        f"{interval(row, 'adjusted', points)} once adjusted for what differs within the bins "
        f"({row['adaptive']} and {row['others']} models in {len(bins)} common bins, beyond doubt "
        f"below 0 in {signs.count(-1)} of them and above in {signs.count(1)}): the claim {_CLAIM} "
        f"{_VERDICTS[_sign(row)]}."
    )


_VERDICTS = {
    -1: "holds here, and they are worse",
    0: "is not contradicted here, nor are they beyond doubt worse",
    1: "does not hold here: they are better",
}


def _sign(row: Row, name: str = "difference") -> int:
    """Of a difference whose interval excludes 0; else 0."""
    return int(row[f"{name}.low"] > 0) - int(row[f"{name}.high"] < 0)


def _each(data: object, own: pd.DataFrame, say: Any) -> str:
    return f"{data}, {', '.join(map(say, _records(own)))}"


def _best(row: Row) -> str:
    return (
        f"{row['trained_by']} {interval(row, 'shifted', points)} "
        f"(in distribution {points(row['id'])})"
    )


def _grows(row: Row) -> str:
    return f"{row['trained_by']} {row['type']} (bend {interval(row, 'bend')})"


def shift_grids(shift: Shift) -> list[Grid]:
    """The three tables of the section."""
    return [grid for grid in (_matched(shift), _chosen(shift), _returns(shift)) if grid.rows]


def _matched(shift: Shift) -> Grid:
    header = ["data, in-distribution accuracy", "adaptive less others, points", "adjusted"]
    header += ["adaptive models", "other models", "difference in distribution, points"]
    rows = [
        [
            Cell(f"{row['data']}, {_range(row)}"),
            _difference(row, "difference"),
            _difference(row, "adjusted"),
            Cell(str(row["adaptive"])),
            Cell(str(row["others"])),
            Cell(points(row["id"])),
        ]
        for row in _records(shift.matched)
    ]
    caption = (
        "Mean shifted accuracy of the models of adaptive optimizers (Adam, AdamW, RMSprop) less "
        "that of the others, in bins that have both; bold where the interval excludes 0. All "
        "bins: the mean with weights from the numbers of models. The last column says how equal "
        "the in-distribution accuracy is; adjusted: less what that difference explains, by the "
        "slope among models of one kind in one bin."
    )
    title = "Shifted accuracy at equal in-distribution accuracy"
    return Grid("shift-matched", title, caption, [Cell(name) for name in header], rows)


def _range(row: Row) -> str:
    if math.isnan(row["low"]):
        return "all bins"
    return f"{100 * row['low']:.0f} to {100 * row['high']:.0f} %"


def _difference(row: Row, name: str) -> Cell:
    if math.isnan(row[name]):
        return Cell("–", muted=True)
    detail = tuple(filter(None, [bounds(row, name, points)]))
    return Cell(points(row[name]), detail, strong=_sign(row, name) != 0)


def _chosen(shift: Shift) -> Grid:
    header = ["data, optimizer", "in distribution, %", "shifted, %", "models"]
    rows = [
        [
            Cell(_name(row)),
            Cell(points(row["id"])),
            Cell(points(row["shifted"]), (bounds(row, "shifted", points),)),
            Cell(str(row["count"])),
        ]
        for row in _records(shift.chosen)
    ]
    caption = "No shifted example has a part in the choice; the test images are different ones."
    title = "The model of best in-distribution accuracy"
    return Grid("shift-chosen", title, caption, [Cell(name) for name in header], rows)


def _returns(shift: Shift) -> Grid:
    header = ["data, optimizer", "slope below", "slope above", "bend", "type", "knot, %"]
    rows = [[Cell(_name(row)), *_slopes(row)] for row in _records(shift.returns)]
    caption = (
        "Least-squares fit of a line with a bend at the median in-distribution accuracy: points "
        "of shifted accuracy for each point in distribution. Increasing or diminishing returns "
        "where the interval of the bend excludes 0, linear where it does not."
    )
    title = "How shifted accuracy grows"
    return Grid("shift-returns", title, caption, [Cell(name) for name in header], rows)


def _slopes(row: Row) -> Iterator[Cell]:
    for name in ("below", "above", "bend"):
        text, *detail = interval(row, name).split(" ", 1)
        yield Cell(text, tuple(detail), strong=name == "bend" and row["type"] != "linear")
    yield Cell(row["type"])
    yield Cell(points(row["knot"]))


def _name(row: Row) -> str:
    return f"{row['data']}, {row['trained_by']}"


def _records(table: pd.DataFrame) -> list[Row]:
    return table.to_dict(orient="records")
