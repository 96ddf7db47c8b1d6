"""The data's loss along lines and over planes through the parameters, as tables.

L is the mean loss of the examples, never with weight decay, of a private copy in eval mode. Each
point is θ + Σ a_k d_k, made anew from θ; many points are evaluated at once, as many as a bounded
memory holds. `stderr` of a point is the standard error of the mean over the examples, standard
deviation / √N: the points share their examples, so that differences between them are known better
than that.

`batch_norm` says what BatchNorm normalizes by at a point: "keep", the running statistics of θ, or
"reestimate", mean and variance of all the examples there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gentheory.errors import InputError, check_at_least
from gentheory.examples import targets_of
from gentheory.landscape.batch_norm import Policy, outputs_under
from gentheory.landscape.directions import coordinates as coordinates_of
from gentheory.landscape.kept import Kept, fingerprint
from gentheory.predictions import check_classes
from gentheory.risk import EmpiricalRisk

Progress = Callable[[int, int], None]
"""Called with the number of points done, and of all."""

_NUMBERS = 2**22
"""Numbers in the parameter vectors at hand at once."""
_COLUMNS = ["loss", "stderr", "accuracy"]


@dataclass(frozen=True)
class Barrier:
    """The loss along the straight way between two parameter vectors, beside its chord."""

    height: float
    """max over t in [0, 1] of L(θ_t) − (1 − t) L(θ_0) − t L(θ_1), on a grid; 0 or more."""
    stderr: float
    """Of that difference at its largest, over the examples; not of the choice of t."""
    position: float
    """t at the largest."""
    table: pd.DataFrame
    """`distance` t, `loss`, `stderr`, `accuracy`, `excess` over the chord with `excess_stderr`."""


def line(
    risk: EmpiricalRisk,
    directions: Float[Tensor, "K P"],
    *,
    distances: Sequence[float] | None = None,
    by_class: bool = False,
    batch_norm: Policy = "keep",
    keep: Path | str | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """L(θ + a d): columns `direction`, `distance` a, `loss`, `stderr`, `accuracy`.

    `distances` are 21 from −1 to 1 unless given. With `by_class` there are also rows on the
    examples of each class alone, which `class` names; it is missing in those of all examples.
    `accuracy` is nan where targets are not classes. `keep` is a file in which what is done is kept,
    so that the same call goes on after it was killed.

    Raises `InputError` for no directions or distances, for `by_class` without classes, and for a
    `keep` that is damaged or was written for other parameters, data or points.
    """
    places = _places("distances", distances, 21)
    labels = pd.MultiIndex.from_product([range(len(directions)), places])
    labels = labels.set_names(["direction", "distance"]).to_frame(index=False)
    column = torch.tensor(places, dtype=torch.float64)[:, None]
    points = torch.block_diag(*[column] * len(directions))
    return _table(risk, directions, points, labels, by_class, batch_norm, keep, progress)


def plane(
    risk: EmpiricalRisk,
    directions: Float[Tensor, "2 P"],
    *,
    first: Sequence[float] | None = None,
    second: Sequence[float] | None = None,
    by_class: bool = False,
    batch_norm: Policy = "keep",
    keep: Path | str | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """L(θ + a d_1 + b d_2): columns `first` a, `second` b, `loss`, `stderr`, `accuracy`.

    A row a point of the grid, the first coordinate changing slowest. `first` and `second` are 25
    coordinates each from −1 to 1 unless given; all else is as in `line`.
    """
    if len(directions) != 2:
        found = f"{len(directions)} directions"
        raise InputError("plane.directions", found, "2", "use slices.line for others")
    ends = [_places("first", first, 25), _places("second", second, 25)]
    labels = pd.MultiIndex.from_product(ends, names=["first", "second"]).to_frame(index=False)
    points = torch.cartesian_prod(*(torch.tensor(e, dtype=torch.float64) for e in ends))
    return _table(risk, directions, points, labels, by_class, batch_norm, keep, progress)


def points(
    risk: EmpiricalRisk,
    directions: Float[Tensor, "K P"],
    coordinates: Float[Tensor, "G K"],
    *,
    by_class: bool = False,
    batch_norm: Policy = "keep",
    keep: Path | str | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """L(θ + Σ_k a_k d_k) at any points a: columns `point`, `loss`, `stderr`, `accuracy`.

    `point` is the row of `coordinates`; all else is as in `line`. Raises `InputError` for another
    number of coordinates than of directions.
    """
    if coordinates.shape[1] != len(directions):
        raise InputError(
            "slices.points",
            f"{coordinates.shape[1]} coordinates for {len(directions)} directions",
            "one a direction",
            "hand in a column for each of them",
        )
    labels = pd.DataFrame({"point": range(len(coordinates))})
    at = coordinates.double()
    return _table(risk, directions, at, labels, by_class, batch_norm, keep, progress)


def barrier(
    risk: EmpiricalRisk,
    other: Float[Tensor, " P"],
    *,
    num_points: int = 25,
    batch_norm: Policy = "keep",
) -> Barrier:
    """How far the loss rises above its chord on the straight way from θ (t = 0) to `other` (t = 1).

    Two minima without a barrier are linearly connected. `num_points` are equally spaced, both ends
    among them, and a narrow ridge between two of them is missed. The errors are those of
    differences example by example. Takes num_points · N numbers in float64.

    Raises `InputError` for less than three points.

    Source: Frankle, Dziugaite, Roy & Carbin 2020 (arXiv 1912.05671), with the chord of Entezari,
    Sedghi, Saukh & Neyshabur 2022 (arXiv 2110.06296).
    """
    check_at_least("barrier.num_points", num_points, 3)
    risk.layout.unflatten(other)
    t = torch.linspace(0, 1, num_points, dtype=torch.float64, device=risk.device)[:, None]
    span = (other.to(risk.theta) - risk.theta)[None]
    found = list(_examples(risk, span, t, batch_norm))
    losses, hits = (torch.cat(parts) for parts in zip(*found, strict=True))
    excess = losses - torch.lerp(losses[:1], losses[-1:], t)
    columns = [
        t[:, 0],
        losses.mean(1),
        _error(losses),
        hits.mean(1),
        excess.mean(1),
        _error(excess),
    ]
    names = ["distance", *_COLUMNS, "excess", "excess_stderr"]
    table = pd.DataFrame(torch.stack(columns, 1).cpu().numpy(), columns=names)
    top = table.loc[table["excess"].idxmax()]
    height, error = float(top["excess"]), float(top["excess_stderr"])
    return Barrier(height, error, float(top["distance"]), table)


def projected(
    thetas: Float[Tensor, "S P"],
    directions: Float[Tensor, "2 P"],
    *,
    centre: Float[Tensor, " P"],
    steps: Sequence[float] | None = None,
) -> pd.DataFrame:
    """A path in the coordinates of a plane: `step`, `first`, `second`.

    Each point stands where the point of the plane lies that is nearest to it. `steps` are 0, 1, …
    unless given. Raises `InputError` for another number of them.
    """
    steps = range(len(thetas)) if steps is None else steps
    if len(steps) != len(thetas):
        raise InputError("projected.steps", str(len(steps)), f"{len(thetas)}", "one a point")
    found = coordinates_of(thetas, directions, centre=centre).cpu().numpy()
    return pd.DataFrame({"step": list(steps), "first": found[:, 0], "second": found[:, 1]})


def _places(name: str, given: Sequence[float] | None, count: int) -> list[float]:
    places = np.linspace(-1, 1, count).tolist() if given is None else list(map(float, given))
    if not places or not np.isfinite(places).all():
        found = "none" if not places else "numbers that are nan or infinite"
        raise InputError(f"slices, {name}", found, "at least one finite number", "give some")
    return places


def _table(
    risk: EmpiricalRisk,
    span: Float[Tensor, "K P"],
    points: Float[Tensor, "G K"],
    labels: pd.DataFrame,
    by_class: bool,
    batch_norm: Policy,
    keep: Path | str | None,
    progress: Progress | None,
) -> pd.DataFrame:
    """A row a point and group of examples, what is kept already taken from the file."""
    if not len(span):
        raise InputError("slices, directions", "none", "at least one", "make some")
    groups = _groups(risk, by_class)
    name = "" if keep is None else _name(risk, span, points, by_class, batch_norm)
    kept = Kept.open(keep, name, (len(points), len(groups), len(_COLUMNS)))
    for losses, hits in _examples(risk, span, points[kept.done :], batch_norm):
        found = [_summary(losses, hits, group) for group in groups.values()]
        kept.add(torch.stack(found, 1).cpu())
        if progress is not None:
            progress(kept.done, len(points))
    table = labels.loc[labels.index.repeat(len(groups))].reset_index(drop=True)
    if by_class:
        table["class"] = pd.array([*groups] * len(points), dtype="Int64")
    values = kept.values.flatten(0, 1).numpy()
    return table.join(pd.DataFrame(values, columns=_COLUMNS))


def _examples(
    risk: EmpiricalRisk,
    span: Float[Tensor, "K P"],
    points: Float[Tensor, "G K"],
    batch_norm: Policy,
) -> Iterator[tuple[Float[Tensor, "k N"], Float[Tensor, "k N"]]]:
    """Each example's loss, and whether it is classified correctly, at some points after others."""
    ways = span.to(risk.theta)
    size = max(1, _NUMBERS // max(risk.num_params, risk.num_examples))
    for start in range(0, len(points), size):
        some = points[start : start + size].to(risk.device)
        # Not a product of matrices, which hardware may take in fewer digits.
        thetas = risk.theta.repeat(len(some), 1)
        for distances, way in zip(some.to(thetas).T, ways, strict=True):
            thetas.addcmul_(distances[:, None], way)
        losses = some.new_empty(len(some), risk.num_examples)
        hits = torch.full_like(losses, torch.nan)
        starts = [0] * len(some)
        for chosen, outputs, targets in outputs_under(batch_norm, risk, thetas):
            where = slice(starts[chosen.start], starts[chosen.start] + len(targets))
            starts[chosen.start] = where.stop
            repeated = targets.expand(len(outputs), *targets.shape).flatten(0, 1)
            values = risk.loss.values(outputs.flatten(0, 1), repeated).double()
            losses[chosen, where] = values.unflatten(0, outputs.shape[:2])
            if _are_classes(targets, outputs):
                hits[chosen, where] = (outputs.argmax(-1) == targets).double()
        yield losses, hits


def _are_classes(targets: Tensor, outputs: Tensor) -> bool:
    return targets.dim() == 1 and not targets.is_floating_point() and outputs.shape[-1] > 1


def _groups(risk: EmpiricalRisk, by_class: bool) -> dict[int | None, Bool[Tensor, " N"]]:
    """Which examples belong to all, under None, and to each of the classes if asked."""
    everything = torch.ones(risk.num_examples, dtype=torch.bool, device=risk.device)
    if not by_class:
        return {None: everything}
    check_classes("slices, by_class", risk)
    targets = targets_of(risk)
    classes: list[int] = targets.unique().tolist()
    return {None: everything, **{c: targets == c for c in classes}}


def _summary(
    losses: Float[Tensor, "k N"], hits: Float[Tensor, "k N"], group: Bool[Tensor, " N"]
) -> Float[Tensor, "k 3"]:
    own, right = losses[:, group], hits[:, group]
    return torch.stack([own.mean(1), _error(own), right.mean(1)], 1)


def _error(values: Float[Tensor, "k N"]) -> Float[Tensor, " k"]:
    """Of the mean; nan for one example."""
    count = values.shape[1]
    if count < 2:
        return torch.full_like(values[:, 0], torch.nan)
    return values.std(1) / count**0.5


def _name(
    risk: EmpiricalRisk,
    span: Float[Tensor, "K P"],
    points: Float[Tensor, "G K"],
    by_class: bool,
    batch_norm: Policy,
) -> str:
    """Of all that the numbers depend on; the batches that the examples come in are no part."""
    module = risk.module
    still = [p for p in module.parameters() if not p.requires_grad]
    about = f"{module} {risk.loss.name} {risk.dtype} {by_class} {batch_norm}"
    inputs, targets = (x for x, _ in risk.batches()), (y for _, y in risk.batches())
    own = (risk.theta, span, points, *still, *module.buffers())
    return fingerprint(chain([about, *own, "inputs"], inputs, ["targets"], targets))
