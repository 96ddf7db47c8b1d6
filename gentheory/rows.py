"""Rows of plain values on the terminal."""

from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gentheory.study.query import Rows

if TYPE_CHECKING:
    from gentheory.study.trial import Prediction  # loads torch

_WIDE = 100_000
"""Characters a line where no terminal cuts it: what reads a pipe wants whole values."""


def show_rows(answer: Rows) -> None:
    """Print a table, floats with six digits, null as nothing."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    table = Table(*map(escape, answer.columns), box=None)
    for row in answer.rows:
        table.add_row(*(escape(_text(value)) for value in row))
    console.print(table)
    if answer.more:
        Console(stderr=True).print(
            f"The first {len(answer.rows)} rows; --csv, --json or --parquet FILE writes all."
        )


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def show_prediction(study: str, found: "Prediction", workers: int, planned: int) -> None:
    """Print the models by architecture and setting, then the time and the disk they will take."""
    from gentheory.data.recipe import Recipe
    from gentheory.study.settings import VARIED

    kinds = found.kinds
    models, shards = (sum(getattr(kind, n) for kind in kinds) for n in ("models", "shards"))
    typer.echo(f"{study}: {models} models in {shards} shards to do, of {planned} shards")
    if not kinds:
        return
    points = [kind.point for kind in kinds]
    varied = [n for n in VARIED if len({str(p.settings[n]) for p in points}) > 1]
    columns = ("data", "architecture", *varied, "models", "shards", "s/model")
    rows: list[tuple[Any, ...]] = []
    for kind, cost, tried in zip(kinds, found.costs, found.tried, strict=True):
        own = kind.epochs / kind.models * kind.steps * (1 + kind.trainings) * cost.step
        seconds = own + cost.measuring + cost.shard * kind.shards / kind.models
        settings = (kind.point.settings[n] for n in varied)
        names = (Recipe(**kind.point.data).label, kind.point.architecture)
        counts = (kind.models, kind.shards, f"{seconds:.2g}{'' if tried else ' (not tried)'}")
        rows.append((*names, *settings, *counts))
    show_rows(Rows(columns, tuple(rows), False))
    whole = sum(found.parts.values()) or 1.0
    shares = ", ".join(f"{name} {s / whole:.0%}" for name, s in found.parts.items())
    typer.echo(f"about {_duration(found.seconds(workers))} with {workers} workers ({shares})")
    typer.echo(f"about {found.bytes / 1e6:.3g} MB on the disk")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
