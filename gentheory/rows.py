"""Rows of plain values on the terminal."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gentheory.study.query import Rows

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
