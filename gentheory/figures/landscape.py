"""The loss along two directions and over the plane that they span, with the way of training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError, check_at_least
from gentheory.figures.drawing import CONFIDENT, Drawing, Progress
from gentheory.figures.stages import Stage
from gentheory.landscape import directions as ways
from gentheory.landscape import slices
from gentheory.landscape.batch_norm import Policy
from gentheory.plots.frame import numbers
from gentheory.plots.slice_contour import slice_contour
from gentheory.plots.slice_line import slice_line
from gentheory.plots.surface import surface
from gentheory.risk import EmpiricalRisk
from gentheory.seeds import generator
from gentheory.tangent import Sample

Directions: TypeAlias = Literal["filter", "layer", "random", "eigen", "gradient", "trajectory"]

_EUCLIDEAN = "Euclidean distance"


@dataclass(frozen=True)
class _Span:
    """Two directions, what they are called, and how far the slices go along each."""

    rows: Float[Tensor, "2 P"]
    names: tuple[str, str]
    unit: str
    ends: tuple[tuple[float, float], tuple[float, float]]
    path: pd.DataFrame | None = None
    """step, first and second of the stages, where the plane has to do with them."""

    @property
    def cosine(self) -> float:
        """Between the two."""
        first, second = self.rows.double()
        return float(first @ second / (first.norm() * second.norm()))


def landscape(
    checkpoint: Checkpoint,
    found: Sequence[Stage] = (),
    *,
    directions: Directions = "filter",
    points: int = 51,
    reach: float = 1.0,
    max_examples: int = 1000,
    by_class: bool = False,
    batch_norm: Policy = "keep",
    keep: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Drawing]:
    """Two figures: the loss along each direction, and over the plane, which has a surface too.

    `directions` are random ones, filter-normalized, layer-normalized or as long as the parameters
    ("random"); the two top eigenvectors of the Hessian; the gradient and a random one; or the
    principal components of the stages, which the plane then shows, as it does in the two cases
    before. Slices have `points` a side from -reach to `reach`, or as far as the stages lie. Of more
    than `max_examples` examples a random subset is taken. `by_class` adds lines on each class's
    examples; `batch_norm` is that of `slices`; `keep` is a file from which a killed plane goes on.
    Bands cover the draw of the examples (95 %). Raises `InputError` for other directions, less
    than 3 points, and too few stages for their components.
    """
    _check(directions, points, reach)
    draws = generator(seed, "plot.landscape")
    risk = Sample.of(checkpoint.risk, max_examples, draws).risk
    span = _span(risk, directions, found, reach, draws)
    grid = [np.linspace(*ends, points).tolist() for ends in span.ends]
    _tell(progress, "lines")
    lines = [
        slices.line(risk, row[None], distances=places, by_class=by_class, batch_norm=batch_norm)
        for row, places in zip(span.rows, grid, strict=True)
    ]
    _tell(progress, "plane")
    plane = slices.plane(
        risk, span.rows, first=grid[0], second=grid[1], batch_norm=batch_norm, keep=keep
    )
    plane = plane if _has_accuracy(plane) else plane.drop(columns="accuracy")
    told = f"{risk.num_examples} training examples; no weight decay. "
    cosine = f"{round(span.cosine, 2) + 0.0:.2f}".replace("-", "−")
    told += f"The directions' cosine is {cosine}."
    return [_lines(lines, span, told), _plane(plane, span, told)]


def _check(directions: str, points: int, reach: float) -> None:
    if directions not in (known := get_args(Directions)):
        raise InputError("directions", repr(directions), f"one of {', '.join(known)}", "choose one")
    check_at_least("points", points, 3)
    if not 0 < reach < float("inf"):
        raise InputError("reach", f"{reach:g}", "a positive number", "give such a one")


def _tell(progress: Progress | None, what: str) -> None:
    if progress is not None:
        progress(what)


def _span(
    risk: EmpiricalRisk,
    kind: Directions,
    found: Sequence[Stage],
    reach: float,
    draws: Generator,
) -> _Span:
    ends = ((-reach, reach), (-reach, reach))
    if kind == "trajectory":
        return _components(risk, found)
    if kind == "eigen":
        rows = ways.eigenvectors(risk, 2, generator=draws).vectors
        names = ("first eigenvector", "second eigenvector")
        return _Span(rows, names, _EUCLIDEAN, ends, _path(risk, rows, found))
    drawn = ways.random(risk, 2, generator=draws)
    if kind == "gradient":
        pair = torch.cat([ways.gradient(risk), ways.unit(drawn[:1])])
        rows = ways.orthogonal(pair)
        names = ("gradient", "random direction")
        return _Span(rows, names, _EUCLIDEAN, ends, _path(risk, rows, found))
    if kind == "random":
        rows = ways.unit(drawn) * risk.theta.norm()
    else:
        rows = {"filter": ways.filter_normalized, "layer": ways.layer_normalized}[kind](risk, drawn)
    label = {"filter": "filter-normalized", "layer": "layer-normalized", "random": "random"}[kind]
    unit = {"filter": "filter norms", "layer": "layer norms", "random": "norms of the parameters"}
    return _Span(rows, (f"{label} direction 1", f"{label} direction 2"), unit[kind], ends)


def _path(
    risk: EmpiricalRisk, rows: Float[Tensor, "2 P"], found: Sequence[Stage]
) -> pd.DataFrame | None:
    if len(found) < 2:
        return None
    steps = [stage.steps for stage in found]
    return slices.projected(_thetas(risk, found), rows, centre=risk.theta, steps=steps)


def _thetas(risk: EmpiricalRisk, found: Sequence[Stage]) -> Float[Tensor, "S P"]:
    return torch.stack([stage.checkpoint.risk.theta.to(risk.theta) for stage in found])


def _components(risk: EmpiricalRisk, found: Sequence[Stage]) -> _Span:
    if len(found) < 3:
        raise InputError(
            'directions "trajectory"',
            f"{len(found)} times in training",
            "at least 3",
            "keep more checkpoints of training, or choose other directions",
        )
    parts = ways.principal(_thetas(risk, found), centre=risk.theta)
    path = parts.coordinates.cpu().numpy()
    margin = 0.15 * np.maximum(np.ptp(path, axis=0), 0.2 * np.ptp(path, axis=0).max())
    low, high = path.min(axis=0) - margin, path.max(axis=0) + margin
    shares = parts.shares.tolist()
    names = tuple(f"component {place} ({share:.0%})" for place, share in enumerate(shares, 1))
    table = pd.DataFrame(
        {"step": [s.steps for s in found], "first": path[:, 0], "second": path[:, 1]}
    )
    ends = ((float(low[0]), float(high[0])), (float(low[1]), float(high[1])))
    return _Span(parts.directions, (names[0], names[1]), _EUCLIDEAN, ends, table)


def _lines(lines: Sequence[pd.DataFrame], span: _Span, told: str) -> Drawing:
    parts = [part.assign(panel=name) for part, name in zip(lines, span.names, strict=True)]
    table = pd.concat(parts, ignore_index=True)
    labels = list(table["class"]) if "class" in table.columns else [pd.NA] * len(table)
    table["series"] = ["all examples" if label is pd.NA else f"class {label}" for label in labels]
    table["low"] = table["loss"] - CONFIDENT * table["stderr"]
    table["high"] = table["loss"] + CONFIDENT * table["stderr"]
    kept = ["panel", "series", "distance", "loss", "low", "high"]
    kept += ["accuracy"] if _has_accuracy(table) else []
    table = table.loc[:, kept]
    return Drawing(
        "landscape_line",
        "The loss along two directions",
        f"On {told} Bands are 95 % intervals over the draw of the examples.",
        {"line": table},
        partial(slice_line, table, across=f"distance ({span.unit})", columns=2, width=8.0),
    )


def _has_accuracy(table: pd.DataFrame) -> bool:
    """Not where targets are no classes."""
    return bool(np.isfinite(numbers(table, "accuracy")).any())


def _plane(table: pd.DataFrame, span: _Span, told: str) -> Drawing:
    first, second = (f"{name} ({span.unit})" for name in span.names)
    named = {"names": (first, second)}
    tables = {"plane": table} if span.path is None else {"plane": table, "trajectory": span.path}
    way = "" if span.path is None else " Orange: training, projected upon the plane."
    return Drawing(
        "landscape_plane",
        "The loss over the plane of the two directions",
        f"On {told}{way}",
        tables,
        partial(slice_contour, table, span.path, **named),
        surface=partial(surface, table, span.path, **named),
    )
