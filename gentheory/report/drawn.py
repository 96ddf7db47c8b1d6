"""Figures of one subject as a page and as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gentheory.figures.drawing import Drawing
from gentheory.plots.export import save
from gentheory.plots.surface import fragment, script
from gentheory.report.pictures import Picture, figure_of, picture_of
from gentheory.report.plain import as_json, plain, said, words
from gentheory.report.templates import style, template
from gentheory.study.provenance import provenance


def picture(drawing: Drawing) -> Picture:
    """The drawing for a report's page, for wide windows and for narrow ones."""
    return picture_of(
        drawing.draw,
        drawing.name,
        drawing.title,
        drawing.caption,
        drawing.alternative,
        narrow=drawing.narrow,
    )


def render_drawings(
    drawings: Sequence[Drawing], about: Mapping[str, Any], *, surfaces: bool = False
) -> str:
    """One self-contained HTML page; `about` says what is drawn, by name.

    With `surfaces` those that have one can be turned in the page, which then holds plotly's
    script, about 5 MB.
    """
    turned = {
        drawing.name: fragment(drawing.surface(), f"{drawing.name}-surface")
        for drawing in drawings
        if surfaces and drawing.surface is not None
    }
    return template("drawn.html.jinja").render(
        style=style(),
        pictures=[picture(drawing) for drawing in drawings],
        surfaces=turned,
        script=script() if turned else "",
        about={key: said(value) for key, value in about.items()},
        made_with={words(key): said(value) for key, value in provenance().items()},
    )


def save_drawings(drawings: Sequence[Drawing], path: Path) -> list[Path]:
    """Each as a file in the format of the suffix; of several, with its name before the suffix."""
    names = [path.name] if len(drawings) == 1 else [_named(path, each) for each in drawings]
    return [
        save(figure_of(drawing.draw()), path.with_name(name))
        for drawing, name in zip(drawings, names, strict=True)
    ]


def _named(path: Path, drawing: Drawing) -> str:
    return f"{path.stem}.{drawing.name}{path.suffix}"


def numbers(drawings: Sequence[Drawing]) -> str:
    """All tables as strict JSON: an object a figure and table, with a list of rows."""
    rows = {
        f"{drawing.name}.{name}": plain(table.to_dict(orient="records"))
        for drawing in drawings
        for name, table in drawing.tables.items()
    }
    return as_json(rows)
