"""The numbers of a report as grids of cells that a page can print."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gentheory.plots.style import unbroken
from gentheory.report.along import MEAN
from gentheory.report.analysis import Analysis
from gentheory.report.numbers import bounds, size, tau

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A value, the small lines below it, and how it is marked."""

    text: str
    detail: tuple[str, ...] = ()
    shade: float = 0.0
    """From -1 to 1 on the diverging scale; 0 is no colour."""
    strong: bool = False
    muted: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of the page; the first cell of each row names the row."""

    name: str
    title: str
    caption: str
    header: list[Cell]
    rows: list[list[Cell]]
    words: bool = False
    """Whether the cells are words, aligned to the left, rather than numbers."""


_GAP = (
    ("kendall", "Kendall's τ with the gap", ""),
    (
        "partial_kendall",
        "Partial τ with the gap given the training loss",
        "What a predictor knows about the gap beyond the training loss.",
    ),
    (
        "lead",
        "Lead over the better trivial baseline",
        "Kendall's τ less that of the better trivial baseline of the column, on the same models; "
        "bold where the paired interval excludes 0.",
    ),
    ("spearman", "Spearman's ρ with the gap", ""),
    ("pearson", "Pearson's r with the gap", ""),
)
_WITHIN = (
    (
        "kendall",
        "Kendall's τ with the gap within a model's training",
        "Over the checkpoints of one model, in the mean over models: 1 where the predictor rises "
        "and falls with the gap all along.",
    ),
    (
        "lead",
        "Lead within a model's training over the better trivial baseline",
        "The same τ less that of the better trivial baseline of the column, model by model; bold "
        "where the paired interval excludes 0.",
    ),
)
_ACROSS = "Over the models that had not ended before, whatever became of them later."
_LADDER = (
    (
        "spearman",
        "Spearman's ρ with tic.exact",
        "How well a cheap rung keeps the order of the exact one, on the same examples.",
    ),
    (
        "ratio",
        "Size against tic.exact",
        "Median over models of the rung over tic.exact on the same examples; 1 is the right size.",
    ),
)
_LOSS = (
    (
        "kendall",
        "Kendall's τ with the test loss",
        "A negative τ of T says that longer training goes with a lower test loss.",
    ),
    (
        "lead",
        "Lead over the training loss alone",
        "Kendall's τ less that of the training loss alone, on the same models; bold where the "
        "paired interval excludes 0.",
    ),
    ("partial_kendall", "Partial τ with the test loss given the training loss", ""),
    (
        "clean_kendall",
        "Kendall's τ with the loss on correctly labelled test data",
        "Elsewhere the test data have the training data's label noise.",
    ),
)


def correlation_grids(analysis: Analysis, *, development: bool = False) -> list[Grid]:
    """What ranks the gap: four correlations, and the difference to the better baseline.

    In the tested settings and all of them together, or in those of development.
    """
    labels, name = _columns(analysis, development), _named("gap", development)
    return [_matrix(labels, analysis.correlations, name, *words) for words in _GAP]


def criterion_grids(analysis: Analysis, *, development: bool = False) -> list[Grid]:
    """What ranks the test loss, and whether a predicted gap adds to the training loss."""
    labels, name = _columns(analysis, development), _named("loss", development)
    return [_matrix(labels, analysis.criteria, name, *words) for words in _LOSS]


def rival_grids(analysis: Analysis, *, development: bool = False) -> list[Grid]:
    """Each criterion beside each rival, in pairs on the same models."""
    labels, name = _columns(analysis, development), _named("rival", development)
    grids: list[Grid] = []
    for place, rival in enumerate(analysis.population.rivals):
        table = analysis.rivalry.loc[analysis.rivalry["rival"] == rival]
        caption = (
            f"Kendall's τ with the test loss less that of {rival}, on the same models; bold where "
            "the paired interval excludes 0."
        )
        caption += "" if development else " First the mean over settings."
        words = ("difference", f"Lead over {rival}", caption)
        grids.append(_matrix(labels, table, f"{name}-{place}", *words))
    return grids


def size_grid(analysis: Analysis, *, development: bool = False) -> Grid | None:
    """Median predicted gap over median measured gap; none where no gap is predicted."""
    if analysis.sizes.empty:
        return None
    caption = "Median predicted gap / median measured gap; 1 is the right size."
    labels, name = _columns(analysis, development), _named("size", development)
    return _matrix(labels, analysis.sizes, name, "ratio", "Size of predicted gaps", caption)


def choice_grid(analysis: Analysis) -> Grid:
    """What each criterion's choice costs, its mean tau, and its lead over the rivals."""
    rivals = analysis.population.rivals
    pairs = {
        (row["predictor"], row["rival"]): row
        for row in _records(analysis.rivalry)
        if row["setting"] == analysis.population.overall
    }
    rows: list[list[Cell]] = []
    for row in _records(analysis.choices):
        head = Cell(row["predictor"], muted=row["kind"] == "baseline")
        leads = [_lead(pairs.get((row["predictor"], rival))) for rival in rivals]
        rows.append([head, *_chosen(row), *leads, Cell(_plain(row["seconds"]))])
    names = ["regret", "mean τ with the test loss", "lowest τ"]
    names += [f"mean τ less that of {rival}" for rival in rivals]
    header = [Cell("criterion"), *map(Cell, names), Cell("seconds a model")]
    caption = (
        "Regret: test loss of the model that the criterion picks, less the best in its setting, "
        "in the mean over settings. Seconds: what it takes beyond the training of the model."
    )
    beside = (
        " Below a lead: in how many settings the criterion is beyond doubt ahead of the rival and "
        "behind it; bold where the interval of the mean excludes 0."
    )
    caption += beside if rivals else ""
    return Grid("choice-of-a-model", "Choosing a model", caption, header, rows)


def _chosen(row: Row) -> list[Cell]:
    if math.isnan(row["tau"]):
        return [Cell("–", muted=True)] * 3
    regret = Cell(size(row["regret"]), (bounds(row, "regret", size),))
    shade = round(row["tau"], 3)
    return [regret, Cell(tau(row["tau"]), (bounds(row, "tau"),), shade), Cell(tau(row["lowest"]))]


def _lead(pair: Row | None) -> Cell:
    if pair is None or math.isnan(pair["difference"]):
        return Cell("–", muted=True)
    counts = f"{int(pair['ahead'])} ahead, {int(pair['behind'])} behind"
    strong = pair["difference.low"] > 0 or pair["difference.high"] < 0
    shade = round(max(-1.0, min(1.0, pair["difference"])), 3)
    detail = (bounds(pair, "difference"), f"{counts} of {int(pair['settings'])}")
    return Cell(tau(pair["difference"]), detail, shade, strong)


def setting_grid(analysis: Analysis) -> Grid:
    """How many models each setting has, and the medians of their losses."""
    names = {
        "ranked": "ranked models",
        "excluded": "left out",
        "fitted": "fit all training data",
        "train_loss": "training loss",
        "test_loss": "test loss",
        "gap": "gap",
        "gap_stderr": "its standard error",
        "train_accuracy": "training accuracy",
        "test_accuracy": "test accuracy",
    }
    rows = [
        [Cell(row["setting"]), *(Cell(_plain(row[name])) for name in names)]
        for row in _records(analysis.settings)
    ]
    header = [Cell("setting"), *(Cell(name) for name in names.values())]
    caption = "Losses, gaps and accuracies are medians over the ranked models."
    return Grid("settings", "Settings", caption, header, rows)


def regime_grid(analysis: Analysis) -> Grid | None:
    """Medians and quartiles of the measures that tell regimes apart; none where none is named."""
    if analysis.regimes.empty:
        return None
    records = _records(analysis.regimes)
    names = list(dict.fromkeys(row["measure"] for row in records))
    cells = {
        (row["setting"], row["measure"]): Cell(
            _plain(row["median"]), (f"[{_plain(row['low'])}, {_plain(row['high'])}]",)
        )
        for row in records
    }
    settings = dict.fromkeys(row["setting"] for row in records)
    rows = [[Cell(label), *(cells[label, name] for name in names)] for label in settings]
    broken = (name.replace(".", ".\N{ZERO WIDTH SPACE}") for name in names)
    header = [Cell("setting"), *map(Cell, broken)]
    caption = "Medians over the ranked models, with the quartiles below."
    return Grid("regimes", "Where each setting stands", caption, header, rows)


def along_grids(analysis: Analysis) -> list[Grid]:
    """Tau with the gap within each model's training, and across models at every checkpoint."""
    found = analysis.along
    if found is None:
        return []
    labels = _columns(analysis, development=False)
    grids = [_matrix(labels, found.within, "along", *words) for words in _WITHIN]
    several = len(analysis.population.tested) > 1
    for place, setting in enumerate([MEAN] * several + [*analysis.population.tested]):
        rows = found.across.loc[found.across["setting"] == setting]
        checkpoints = [f"{found.unit.removesuffix('s')} {each}" for each in rows[found.unit]]
        table = rows.assign(setting=checkpoints)
        counts = {c: int(own["count"].max()) for c, own in table.groupby("setting", sort=False)}
        title = f"Kendall's τ with the gap across models at each checkpoint, {setting}"
        grids.append(_matrix(counts, table, f"across-{place}", "kendall", title, _ACROSS))
    return grids


def ladder_grids(analysis: Analysis) -> list[Grid]:
    """How well the cheap rungs stand for the exact one."""
    if analysis.ladder.empty:
        return []
    table = analysis.ladder
    labels: dict[str, int] = {}
    for row in _records(table):
        labels[row["setting"]] = max(row["count"], labels.get(row["setting"], 0))
    return [_matrix(labels, table, "ladder", *words) for words in _LADDER]


def word_grid(name: str, title: str, caption: str, table: pd.DataFrame) -> Grid | None:
    """A table of words and counts as it stands; none where it is empty."""
    if table.empty:
        return None
    header = [Cell(str(column)) for column in table.columns]
    rows = [[Cell(str(row[cell.text])) for cell in header] for row in _records(table)]
    return Grid(name, title, caption, header, rows, words=True)


def _named(name: str, development: bool) -> str:
    return f"development-{name}" if development else name


def _columns(analysis: Analysis, development: bool) -> dict[str, int]:
    """Models by setting, all of them together first; or those of the settings of development."""
    apart = analysis.population.development
    groups = analysis.population.groups()
    return {label: len(frame) for label, frame in groups if (label in apart) is development}


def _matrix(
    settings: dict[str, int], table: pd.DataFrame, name: str, column: str, title: str, caption: str
) -> Grid:
    """Predictors down, these settings across."""
    records = _records(table)
    rows: list[list[Cell]] = []
    for predictor in dict.fromkeys(row["predictor"] for row in records):
        own = {row["setting"]: row for row in records if row["predictor"] == predictor}
        if _undefined(own.values(), column):
            continue
        head = Cell(predictor, muted=next(iter(own.values())).get("kind") == "baseline")
        rows.append([head, *(_number(own[label], column, settings[label]) for label in settings)])
    header = [
        Cell("predictor"),
        *(Cell(unbroken(k), (f"{n} models",)) for k, n in settings.items()),
    ]
    return Grid(f"{name}-{column}", title, caption, header, rows)


def _undefined(rows: Iterable[Row], column: str) -> bool:
    """Whether the number has no meaning, as for a baseline compared with itself."""
    unexplained = [row.get(column, math.nan) for row in rows if not row["note"]]
    return bool(unexplained) and all(math.isnan(value) for value in unexplained)


def _number(row: Row, column: str, models: int) -> Cell:
    if math.isnan(row[column]):
        return Cell(row["note"] or "–", muted=True)
    write = size if column == "ratio" else tau
    detail = [bounds(row, column, write)]
    if row["count"] != models:
        detail.append(f"{row['count']} models")
    paired = column in ("lead", "difference")
    strong = paired and (row[f"{column}.low"] > 0 or row[f"{column}.high"] < 0)
    shade = 0.0 if column == "ratio" else max(-1.0, min(1.0, row[column]))
    return Cell(write(row[column]), tuple(filter(None, detail)), round(shade, 3), strong)


def _plain(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "–" if math.isnan(value) else f"{value:.3g}"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.to_dict(orient="records")
