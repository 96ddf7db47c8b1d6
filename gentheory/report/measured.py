"""The page of one measured model: every estimate with its error, its formula and its warnings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gentheory.estimate import Estimate
from gentheory.measures import Results, describe
from gentheory.report.templates import style, template
from gentheory.study.provenance import provenance

_LONG = 12
"""Of a longer list the page shows this many entries; the JSON file has them all."""


@dataclass(frozen=True)
class Frame:
    """A verdict that stands above the numbers it was made of."""

    command: str
    verdict: str
    sentences: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    """The first cell is the row's name."""


def render_results(results: Results, about: Mapping[str, Any], frame: Frame | None = None) -> str:
    """One self-contained HTML page; `about` says what was measured, by name."""
    families: dict[str, list[dict[str, Any]]] = {}
    for name, estimate in results.items():
        row = _row(name, estimate, results.seconds[name])
        families.setdefault(name.partition(".")[0], []).append(row)
    return template("measured.html.jinja").render(
        style=style(),
        families=families,
        notes=results.notes(),
        frame=frame,
        about=about,
        made_with={key: _said(value) for key, value in provenance().items()},
        numbers=len(results),
        missing=sum(estimate.status != "ok" for estimate in results.values()),
    )


def _row(name: str, estimate: Estimate, seconds: float) -> dict[str, Any]:
    described = describe(name)
    return {
        "name": name,
        "formula": described.formula,
        "source": described.source,
        "value": _number(estimate.value),
        "stderr": "exact" if estimate.stderr == 0 else f"± {_number(estimate.stderr)}",
        "status": estimate.status,
        "stats": {key.replace("_", " "): _said(v) for key, v in estimate.stats.items()},
        "seconds": f"{seconds:.2f}",
    }


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        rest = f" and {len(value) - _LONG} more" * (len(value) > _LONG)
        return ", ".join(map(_said, value[:_LONG])) + rest
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.5g}"
