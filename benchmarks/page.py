"""The page: one self-contained HTML file in the look of a study's report, and its numbers."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from benchmarks.contest import OURS
from benchmarks.picture import Image, pictures
from benchmarks.rows import Row
from gentheory.plots.export import write


def write_page(rows: Sequence[Row], about: Mapping[str, Any], out: Path) -> Path:
    """`index.html` and `index.json` in the folder `out`; returns the page's path."""
    numbers = {"rows": [_numbers(row) for row in rows], "about": dict(about)}
    text = json.dumps(_plain(numbers), indent=1, allow_nan=False, ensure_ascii=False)
    write(out / "index.json", f"{text}\n".encode())
    return write(out / "index.html", render_page(rows, about, pictures(rows)).encode())


def render_page(
    rows: Sequence[Row], about: Mapping[str, Any], drawn: tuple[Image, Image] | None
) -> str:
    """The page as a text."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"seconds": seconds, "bytes": size, "times": times}
    own = Path(__file__).parent
    template = environment.from_string((own / "page.html.jinja").read_text("utf-8"))
    style = (files("gentheory.report") / "page.css").read_text("utf-8")
    return template.render(
        style=style + (own / "page.css").read_text("utf-8"),
        ours=OURS,
        rows=rows,
        counts=_counts(rows),
        notes=_notes(rows),
        picture=drawn,
        about={key.replace("_", " "): _said(value) for key, value in about.items()},
    )


def seconds(value: float) -> str:
    """In seconds, or below one in milliseconds."""
    unit, factor = ("s", 1.0) if value >= 1 else ("ms", 1e3)
    return f"{value * factor:.3g}\N{NO-BREAK SPACE}{unit}"


def size(value: float) -> str:
    """Bytes in MB; a dash where they are unknown."""
    if math.isnan(value):
        return "–"
    megabytes = value / 2**20
    return f"{megabytes:,.0f}\N{NO-BREAK SPACE}MB" if megabytes >= 1 else "< 1\N{NO-BREAK SPACE}MB"


def times(value: float) -> str:
    """A ratio with two or three digits."""
    return f"{value:.0f}×" if value >= 99.5 else f"{value:.3g}×" if value >= 10 else f"{value:.2f}×"


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    lean = [row.lean for row in rows if row.lean is not None]
    return {
        "rows": len(rows),
        "reached": sum(row.reached for row in rows),
        "lean": sum(lean),
        "weighed": len(lean),
    }


def _notes(rows: Sequence[Row]) -> dict[str, list[tuple[str, str]]]:
    """(peer, note) by work, and by net where the nets of a work differ."""
    found = [
        (row, sorted((peer.name, peer.note) for peer in row.peers if peer.note)) for row in rows
    ]
    chosen: dict[str, list[tuple[str, str]]] = {}
    for row, notes in found:
        same = all(other == notes for each, other in found if each.work == row.work)
        if notes:
            chosen[row.work if same else f"{row.work}, {row.net}"] = notes
    return chosen


def _numbers(row: Row) -> dict[str, Any]:
    derived = {"reached": row.reached, "lean": row.lean}
    return {**asdict(row), **derived}


def _plain(value: Any) -> Any:
    """JSON values, nan as null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
