"""Portraits of single models that a study asks for, drawn from their weights."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gentheory.checkpoint import Checkpoint, load
from gentheory.errors import InputError
from gentheory.figures.classes import classes
from gentheory.figures.collapse import collapse
from gentheory.figures.density import density
from gentheory.figures.drawing import Drawing
from gentheory.figures.eigenvalues import eigenvalues
from gentheory.figures.kernel import kernel
from gentheory.figures.landscape import landscape
from gentheory.figures.stages import kept, stages
from gentheory.plots.surface import fragment
from gentheory.report.correlated import correlations
from gentheory.report.drawn import picture
from gentheory.report.pictures import Picture
from gentheory.report.population import Population
from gentheory.report.verdicts import selected
from gentheory.study.figure import ModelFigure
from gentheory.study.tables import Tables

_PLACE = "report.figures"
_KINDS: Mapping[str, Callable[..., list[Drawing]]] = {
    "landscape": landscape,
    "density": density,
    "eigenvalues": eigenvalues,
    "kernel": kernel,
    "collapse": collapse,
    "classes": classes,
}
_OWN = ("seed", "progress", "keep")
"""What is no option of a study's figure."""


def model_pictures(tables: Tables, population: Population, *, seed: int = 0) -> list[Picture]:
    """Those of each `[[report.figures]]` with a `kind`, in their order.

    `seed` is that of probes, directions and examples. Raises `InputError` for an option that the
    kind does not have, where no ranked model is as `where` says, and as the kind's function does.
    """
    found: list[Picture] = []
    for number, figure in enumerate(tables.figures, 1):
        if isinstance(figure, ModelFigure):
            for drawing in _drawings(figure, tables, population, seed):
                found.append(_picture(drawing, number))
    return found


def _drawings(
    figure: ModelFigure, tables: Tables, population: Population, seed: int
) -> list[Drawing]:
    if figure.kind == "correlations":
        return correlations(tables)
    draw = _KINDS[figure.kind]
    _check_options(figure, draw)
    models = population.ranked
    models = models.loc[selected(models, figure.where, place=f"{_PLACE}.where")]
    if models.empty or tables.folder is None:
        found = "no model" if models.empty else "tables without the folder of their study"
        raise InputError(f"{_PLACE}, {figure.kind}", found, "a model to draw", "change its where")
    first = models.iloc[0]
    path = tables.folder / "shards" / str(first["shard"]) / "weights.safetensors"
    index = int(first["position"])
    subject = load(path, index)
    about = f" Of {first['architecture']} on {first['data']}, seed {first['seed']}."
    drawings = draw(
        *_arguments(draw, subject, lambda: stages(subject, kept(path, index, subject))),
        seed=seed,
        **figure.options,
    )
    return [replace(each, caption=each.caption + about) for each in drawings]


def _arguments(
    draw: Callable[..., Any], subject: Checkpoint, found: Callable[[], Any]
) -> list[Any]:
    """The model, its stages along training, or both, as the kind takes them."""
    names = list(inspect.signature(draw).parameters)
    first = [] if names[0] == "found" else [subject]
    return [*first, found()] if "found" in names else first


def _check_options(figure: ModelFigure, draw: Callable[..., Any]) -> None:
    parameters = inspect.signature(draw).parameters.values()
    options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in _OWN]
    for name in figure.options:
        if name not in options:
            place = f"{_PLACE}, options of {figure.kind!r}"
            raise InputError(place, repr(name), f"one of {', '.join(options)}", "correct it")


def _picture(drawing: Drawing, number: int) -> Picture:
    """Named after its place too: several models may have the same figure."""
    name = f"{drawing.name}_{number}"
    drawn = picture(replace(drawing, name=name))
    if drawing.surface is None:
        return drawn
    return replace(drawn, surface=fragment(drawing.surface(), f"{name}-surface"))
