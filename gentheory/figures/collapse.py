"""Neural collapse: the class means beside their frame, and the metrics along training."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.collapse.classes import geometries
from gentheory.collapse.frames import centred, cosines, simplex
from gentheory.examples import outputs_of, targets_of
from gentheory.features import classifier
from gentheory.figures.drawing import Drawing, Progress, interval
from gentheory.figures.stages import Stage, times
from gentheory.measures import measure
from gentheory.plots.collapse_trajectories import collapse_trajectories
from gentheory.plots.gram_matrix import gram_matrix
from gentheory.risk import EmpiricalRisk

METRICS = {
    "collapse.nc1": "NC1: variability within classes",
    "collapse.equinorm": "NC2: unequal norms",
    "collapse.equiangle": "NC2: unequal angles",
    "collapse.etf_distance": "NC2: distance to the ETF",
    "collapse.nc3": "NC3: classifier against means",
    "collapse.nc4": "NC4: not the nearest mean",
}
"""What is drawn along training, by the measure's name."""


def collapse(
    checkpoint: Checkpoint,
    found: Sequence[Stage] = (),
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Drawing]:
    """Two figures: cosines of the centred class means, of the simplex ETF and of the classifier's
    rows; and the metrics at each stage, where there are three or more.

    Penultimate features of the training examples. Raises `InputError` where targets are not
    classes, and for a net that does not end in a linear layer.
    """
    drawings = [_gram(checkpoint.risk)]
    if len(found) > 2:
        drawings.append(trajectories({"this model": found}, seed=seed, progress=progress))
    return drawings


def _gram(risk: EmpiricalRisk) -> Drawing:
    geometry = geometries(risk, "plot collapse")[0]
    means, chosen = geometry.means, list(geometry.classes)
    rows = classifier(risk).weight[chosen].to(means)
    frame = simplex(len(means), means)
    panels = {
        "class means": cosines(centred(means)),
        "simplex ETF": frame / frame[0, 0],
        "classifier": cosines(centred(rows)),
    }
    parts = [_cells(matrix, chosen).assign(panel=name) for name, matrix in panels.items()]
    table = pd.concat(parts, ignore_index=True)
    return Drawing(
        "class_means",
        "Class means beside the frame that they collapse to",
        "Cosines between the class means of the penultimate features, centred, between the "
        "vectors of a simplex equiangular tight frame, and between the classifier's rows, centred.",
        {"class_means": table},
        partial(gram_matrix, table),
    )


def _cells(matrix: Float[Tensor, "C C"], classes: Sequence[int]) -> pd.DataFrame:
    count = len(classes)
    return pd.DataFrame(
        {
            "row": [str(label) for label in classes for _ in range(count)],
            "column": [str(label) for label in classes] * count,
            "value": matrix.flatten().tolist(),
        }
    )


def trajectories(
    series: dict[str, Sequence[Stage]], *, seed: int = 0, progress: Progress | None = None
) -> Drawing:
    """The metrics of one model or several at each of their stages, and when errors end.

    A metric that does not apply at a stage leaves a gap there. Raises `InputError` for less than
    two stages.
    """
    rows: list[dict[str, Any]] = []
    fitted: dict[str, float] = {}
    units = {name: times(found, "plot collapse") for name, found in series.items()}
    by = "epoch" if all(unit == "epoch" for unit, _ in units.values()) else "steps"
    for name, found in series.items():
        for stage in found:
            known = measure(stage.checkpoint, list(METRICS), seed=seed, progress=progress)
            time = stage.epoch if by == "epoch" else stage.steps
            rows += [
                {by: time, "panel": panel, "series": name, **interval(known[metric])}
                for metric, panel in METRICS.items()
            ]
        end = _fitted(found)
        if end is not None:
            fitted[name] = float(end.steps if by == "steps" or end.epoch is None else end.epoch)
    table = pd.DataFrame(rows)
    return Drawing(
        "collapse",
        "Neural collapse along training",
        "Metrics of the penultimate features on the training examples; all fall to 0 where they "
        "collapse. Bands are 95 % intervals over the draw of the examples; the upright line is "
        "the first checkpoint from which on no training example is classified wrongly.",
        {"collapse": table},
        partial(collapse_trajectories, table, fitted, by=by),
    )


def _fitted(found: Sequence[Stage]) -> Stage | None:
    """The first stage from which on the training error is 0."""
    first: Stage | None = None
    for stage in reversed(found):
        risk = stage.checkpoint.risk
        targets = targets_of(risk)
        if targets.dim() != 1 or not bool((outputs_of(risk).argmax(1) == targets).all()):
            break
        first = stage
    return first
