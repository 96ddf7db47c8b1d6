"""The figures that a study asks for: quantities at every checkpoint along training."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.plots.along_training import along_training
from gentheory.report.course import Course
from gentheory.report.pictures import Picture, picture_of
from gentheory.report.population import Population
from gentheory.report.ranking import Resampling, interval_columns
from gentheory.report.repeats import mean_over, repeats
from gentheory.report.verdicts import NONE, column, selected
from gentheory.study.figure import CourseFigure
from gentheory.study.tables import Tables

_PLACE = "report.figures"
_PLACES = ("panel", "series")


def course_pictures(
    tables: Tables, population: Population, resampling: Resampling
) -> list[Picture]:
    """One for each `[[report.figures]]` that has a number to show."""
    found = [
        _picture(number, drawing, *course_means(drawing, tables, population, resampling))
        for number, drawing in numbered(tables)
    ]
    return [picture for picture in found if picture is not None]


def numbered(tables: Tables) -> list[tuple[int, CourseFigure]]:
    """The figures of this kind, with their places among all, from 1."""
    found = enumerate(tables.figures, 1)
    return [(number, each) for number, each in found if isinstance(each, CourseFigure)]


def course_means(
    drawing: CourseFigure, tables: Tables, population: Population, resampling: Resampling
) -> tuple[pd.DataFrame, Course]:
    """One row a panel, series and checkpoint: `count`, `value`, `low` and `high`.

    The mean over the models that had not ended before, with its 95 % bootstrap over the repeats.
    Raises `InputError` for a quantity or a column that the tables do not have, and where `where`
    chooses no model.
    """
    course = Course.of(tables, drawing.quantities, place=_PLACE)
    models = population.ranked
    models = models.loc[models["setting"].isin(population.tested)]
    models = models.loc[selected(models, drawing.where, place=f"{_PLACE}.where")]
    if models.empty:
        raise InputError(_PLACE, f"no model in {drawing.title!r}", "some", "change its where")
    about = pd.DataFrame({"model": models["model"], "repeat": repeats(models)})
    for place in _PLACES:
        labels, ranks = _labels(models, getattr(drawing, place), drawing.title)
        about = about.assign(**{place: labels, f"{place}.rank": ranks})
    rows = course.rows.merge(about, on="model", validate="many_to_one")
    parts: list[pd.DataFrame] = []
    for rank, name in enumerate(drawing.quantities):
        own = rows.assign(number=np.asarray(rows[name], dtype=float))
        own = own.loc[np.isfinite(own["number"])]
        for place in _PLACES:
            if getattr(drawing, place) == "quantity":
                own = own.assign(**{place: _words(name), f"{place}.rank": rank})
        parts.append(own)
    order = [f"{place}.rank" for place in _PLACES]
    return _means(pd.concat(parts).sort_values(order, kind="stable"), course, resampling), course


def _means(rows: pd.DataFrame, course: Course, resampling: Resampling) -> pd.DataFrame:
    how = {"num_resamples": resampling["num_resamples"], "seed": resampling["seed"]}
    found: list[dict[str, Any]] = []
    keys = list(zip(rows["panel"], rows["series"], rows[course.by], strict=True))
    for key in dict.fromkeys(keys):
        own = rows.loc[[other == key for other in keys]]
        mean = mean_over(np.asarray(own["number"], dtype=float), _repeats(own), **how)
        about = dict(zip(("panel", "series", course.by), key, strict=True))
        found.append(about | {"count": len(own)} | interval_columns("value", mean))
    columns = ["panel", "series", course.by, "count", "value", "value.low", "value.high"]
    table = pd.DataFrame(found, columns=columns)
    return table.rename(columns={"value.low": "low", "value.high": "high"})


def _repeats(rows: pd.DataFrame) -> NDArray[np.str_]:
    return np.asarray(rows["repeat"], dtype=str)


def _labels(models: pd.DataFrame, name: str | None, title: str) -> tuple[list[str], list[float]]:
    """What panels or series are called, and their order; "quantity" is told apart later.

    Numbers rise, words stand as in the study.
    """
    if name is None or name == "quantity":
        return [title] * len(models), [0.0] * len(models)
    own = column(models, name, place=_PLACE)
    words = name.replace("_", " ")
    texts = [NONE if pd.isna(value) else _text(value) for value in own]
    plain = all(isinstance(value, str) for value in own.dropna())
    labels = [text if plain and text != NONE else f"{words} {text}" for text in texts]
    if pd.api.types.is_numeric_dtype(own):
        return labels, own.astype(float).fillna(-np.inf).tolist()
    return labels, pd.factorize(np.asarray(labels))[0].astype(float).tolist()


def _words(quantity: str) -> str:
    """A loss in words, a measure by its name."""
    return quantity if "." in quantity else quantity.replace("_", " ")


def _text(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _picture(
    number: int, drawing: CourseFigure, table: pd.DataFrame, course: Course
) -> Picture | None:
    if table.empty:
        return None
    share = drawing.panel != "quantity"  # quantities have scales of their own
    alone = len(drawing.quantities) == 1
    axis = drawing.axis or (_words(drawing.quantities[0]) if alone else "value")
    panels, series = table["panel"].nunique(), table["series"].nunique()
    return picture_of(
        partial(
            along_training,
            table,
            quantity=axis,
            by=course.by,
            limits=drawing.limits,
            share=share,
            columns=3,
        ),
        f"course_{number}",
        drawing.title,
        f"{drawing.caption} Means over the models, with 95 % intervals over their seeds.".strip(),
        f"{drawing.title}: {', '.join(drawing.quantities)} over {table[course.by].nunique()} "
        f"checkpoints, {series} lines in {panels} panels; all numbers are in results.json.",
        narrow={"columns": 1, "width": 3.9},
        along=True,
    )
