"""The tables of a study: what was trained, what was measured, and how it was done."""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gentheory.errors import InputError
from gentheory.study.claim import AnyClaim
from gentheory.study.figure import AnyFigure
from gentheory.study.runner import count
from gentheory.study.spec import Study
from gentheory.study.store import TABLES_ALONG, Store

COST_COLUMNS = ["model", "what", "seconds"]
ALONG_COLUMNS = ["model", "epoch", "steps", "measure", "value", "stderr", "status"]


@dataclass(frozen=True)
class Tables:
    """Everything that a report needs to know about one study."""

    name: str
    title: str
    description: str
    """What was asked: plain text, paragraphs separated by blank lines."""
    models: pd.DataFrame
    """One row a model: its setting, its hyper-parameters, its outcome and its losses."""
    measures: pd.DataFrame
    """One row a model and measure: value, stderr, status, reason, warnings, stats (JSON texts)."""
    curves: pd.DataFrame
    """One row a model and epoch: the training loss."""
    provenance: dict[str, Any]
    """Versions, commit, machine, cores, threads, seed, times, command and counts of models."""
    costs: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=COST_COLUMNS))
    """One row a model and what was done for it: training, a rival or a measure, in seconds."""
    main: str | None = None
    """The predicted gap that the findings are about, if the study names it."""
    describe: tuple[str, ...] = ()
    """Measures that tell the settings' regimes apart, if the study names any."""
    claims: tuple[AnyClaim, ...] = ()
    """What a paper says, each with the number that decides on it."""
    about: Literal["gap", "claims"] = "gap"
    """What the page is built around."""
    figures: tuple[AnyFigure, ...] = ()
    """What the study asks to be drawn."""
    folder: Path | None = None
    """The study's, with the weights of its models."""
    development: frozenset[str] = frozenset()
    """Models of the settings on which a choice was made, which the findings leave aside."""
    trajectory: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One row a model and checkpoint along training: its losses then, nan once it has ended.

    `steps` of the optimizer tell a model's checkpoints apart; `epoch` is how many it completed."""
    measures_along: pd.DataFrame = field(
        default_factory=partial(pd.DataFrame, columns=ALONG_COLUMNS)
    )
    """`measures` at the checkpoints along training, with their `epoch` and `steps`."""

    def wide(self) -> pd.DataFrame:
        """`models` with two more columns a measure, `<measure>` and `<measure>.stderr`.

        Both are nan where the measure's status is not "ok". Raises `InputError` when a model
        carries a measure twice, because no one of the two values is the right one.
        """
        pairs = list(zip(*(self.measures.loc[:, key] for key in ("model", "measure")), strict=True))
        if len(set(pairs)) < len(pairs):
            model, measure = Counter(pairs).most_common(1)[0][0]
            raise InputError(
                "tables.measures",
                f"{measure} twice for model {model}",
                "one row a model and measure",
                "drop the repeated rows",
            )
        numbers = self.measures.loc[self.measures["status"] == "ok"].set_index("model")
        columns: dict[str, pd.Series] = {}
        for name in dict.fromkeys(measure for _, measure in pairs):
            own = numbers.loc[numbers["measure"] == name].reindex(self.models["model"])
            for key, suffix in (("value", ""), ("stderr", ".stderr")):
                columns[f"{name}{suffix}"] = (
                    own.loc[:, key].astype(float).set_axis(self.models.index)
                )
        return pd.concat([self.models, pd.DataFrame(columns, index=self.models.index)], axis=1)


def read_tables(store: Store) -> Tables:
    """The tables of a study's committed shards. Raises `InputError` as `Store.table` does."""
    runs, counts = store.runs(), count(store)
    last = runs[-1] if runs else {}
    models = store.table("models")
    along = {name: store.table(name) for name in TABLES_ALONG}
    return Tables(
        store.study.name,
        store.study.title,
        store.study.description.strip(),
        models,
        store.table("measures"),
        store.table("curves"),
        {
            **last,
            "seconds": sum(run["seconds"] or 0.0 for run in runs),
            "runs": len(runs),
            "threads": store.study.threads,
            "seed": store.study.seed,
            "planned": counts.planned,
            "done": counts.done,
            "failed": counts.failed,
        },
        store.table("costs"),
        store.study.report.main,
        tuple(store.study.report.describe),
        tuple(store.study.report.claims),
        about=store.study.report.about,
        figures=tuple(store.study.report.figures),
        folder=store.path,
        development=_development(store.study, models),
        **{name: table for name, table in along.items() if len(table)},
    )


def _development(study: Study, models: pd.DataFrame) -> frozenset[str]:
    columns = (models[name] for name in ("model", "part", "architecture", "n_train", "label_noise"))
    return frozenset(
        model for model, *setting in zip(*columns, strict=True) if study.is_development(*setting)
    )
