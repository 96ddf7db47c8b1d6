"""The page of a study that is about claims on quantities rather than about ranking the gap."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from gentheory.plots.surface import script
from gentheory.report.claim_grids import claim_grid, configuration_grid
from gentheory.report.claims import claims
from gentheory.report.course_pictures import course_means, course_pictures, numbered
from gentheory.report.design import labels
from gentheory.report.missing import missing_grids
from gentheory.report.model_pictures import model_pictures
from gentheory.report.numbers import interval, size, tau
from gentheory.report.outcomes import exclusions, misses, warnings
from gentheory.report.pictures import Content, curves
from gentheory.report.plain import plain, said, words
from gentheory.report.population import Population, population
from gentheory.report.ranking import Resampling, interval_columns
from gentheory.report.repeats import mean_over, repeats
from gentheory.report.templates import style, template
from gentheory.report.verdicts import AGREES, DISAGREES, NO_NUMBER, OPEN, numbers
from gentheory.study.claim import Statement
from gentheory.study.tables import Tables

_VERBS = {
    AGREES: ("agrees with what was measured", "agree with what was measured"),
    DISAGREES: ("disagrees", "disagree"),
    OPEN: ("is undecided", "are undecided"),
    NO_NUMBER: ("has no number", "have no number"),
}
_FIRST = ("train_accuracy", "test_accuracy")


def content(tables: Tables, resampling: Resampling) -> Content:
    """What the page and the files beside it hold.

    Raises `InputError` as `claims` and `course_pictures` do.
    """
    models = population(tables)
    decided = claims(tables, models, resampling)
    found = findings(decided)
    drawn = [*course_pictures(tables, models, resampling), *filter(None, [curves(tables)])]
    drawn += model_pictures(tables, models, seed=resampling["seed"])
    ends = configurations(tables, models, resampling)
    lost, missed, warned = exclusions(models), misses(tables), warnings(tables)
    page = template("claims.html.jinja").render(
        style=style(),
        tables=tables,
        paragraphs=[text for text in map(str.strip, tables.description.split("\n\n")) if text],
        findings=found,
        counts=_counts(models),
        claims=claim_grid(decided),
        pictures=drawn,
        script=script() if any(picture.surface for picture in drawn) else "",
        configurations=configuration_grid(ends),
        missing=missing_grids(lost, missed, warned),
        provenance={words(key): said(value) for key, value in tables.provenance.items()},
    )
    named = {"claims": decided, "configurations": ends}
    for number, drawing in numbered(tables):
        named[f"course_{number}"] = course_means(drawing, tables, models, resampling)[0]
    named |= {"exclusions": lost, "misses": missed, "warnings": warned}
    named["models"] = models.models.dropna(axis=1, how="all")
    about = {"name": tables.name, "title": tables.title, "description": tables.description}
    rows = {name: plain(table.to_dict(orient="records")) for name, table in named.items()}
    results = {**about, "findings": found, **rows, "provenance": plain(tables.provenance)}
    return Content(page, found, drawn, results)


def findings(claims: pd.DataFrame) -> list[str]:
    """How many claims agree with what was measured, and then each of them with its number."""
    if claims.empty:
        return ["The study measures and draws; it decides on no claim."]
    counts = Counter(claims["verdict"])
    parts = [
        f"{counts[verdict]} {verbs[counts[verdict] != 1]}"
        for verdict, verbs in _VERBS.items()
        if counts[verdict]
    ]
    first = f"{len(claims)} claim{'s' * (len(claims) > 1)}: {', '.join(parts)}."
    return [first, *map(_finding, claims.to_dict("records"))]


def _finding(row: Mapping[Any, Any]) -> str:
    write = size if row["repeats"] else tau
    measured = interval(row, "value", write)
    return f"{row['verdict'].capitalize()}: {row['says']}: {measured}, expected {row['expected']}."


def configurations(tables: Tables, population: Population, resampling: Resampling) -> pd.DataFrame:
    """One row a configuration and quantity: `models`, `mean` with `mean.low` and `mean.high`.

    Configurations are the ranked models that differ in nothing but their seeds; quantities are
    the accuracies and all that claims and figures name, at the end of training.
    """
    ranked = population.ranked
    how = {"num_resamples": resampling["num_resamples"], "seed": resampling["seed"]}
    called = _called(ranked)
    rows: list[Mapping[str, Any]] = []
    for label in dict.fromkeys(called):
        own = ranked.loc[[other == label for other in called]]
        for name in _quantities(tables, ranked):
            mean = mean_over(numbers(own, name, place="report"), repeats(own), **how)
            row = {"configuration": label or "all models", "quantity": name, "models": len(own)}
            rows.append(row | interval_columns("mean", mean))
    return pd.DataFrame(rows)


def _called(models: pd.DataFrame) -> list[str]:
    """The name of each model's configuration: its part, and what varies in that part."""
    texts = {name: list(own) for name, own in labels(models).items() if len(set(own)) > 1}
    parts = [int(part) for part in models["part"]] if "part" in models else [0] * len(models)
    inside = {part: _varying(texts, [row == part for row in parts]) for part in set(parts)}
    called: list[str] = []
    for row, part in enumerate(parts):
        first = [f"part {part}"] if len(inside) > 1 else []
        own = (_named(name, texts[name][row]) for name in inside[part])
        called.append(", ".join([*first, *own]))
    return called


def _varying(texts: Mapping[str, Sequence[str]], kept: Sequence[bool]) -> list[str]:
    """What has several values among the models kept; data and architecture in any case."""
    return [
        name for name, own in texts.items() if name in _PLAIN or len(set(compress(own, kept))) > 1
    ]


_PLAIN = ("architecture", "data")


def _named(name: str, value: str) -> str:
    return value if name in _PLAIN else f"{words(name)} {value}"


def _quantities(tables: Tables, models: pd.DataFrame) -> list[str]:
    asked = [n for one in tables.claims if isinstance(one, Statement) for n in one.quantities()]
    asked += [name for _, drawing in numbered(tables) for name in drawing.quantities]
    errors = ("train_error", "test_error")
    names = [name for name in dict.fromkeys((*_FIRST, *asked)) if name not in errors]
    return [name for name in names if name in models and is_numeric_dtype(models[name])]


def _counts(population: Population) -> dict[str, int]:
    models = population.models
    return {
        "models": len(models),
        "ranked": len(population.ranked),
        "diverged": sum(reason == "diverged" for reason in models["excluded"]),
        "measures": len(population.measures),
    }
