"""Both ends of the Hessian on each class's examples: which classes are at a saddle."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import pandas as pd

from gentheory.checkpoint import Checkpoint
from gentheory.curvature import ggn, hessian
from gentheory.curvature.classes import class_extremes
from gentheory.errors import InputError
from gentheory.examples import targets_of
from gentheory.figures.drawing import Drawing, Progress
from gentheory.plots.class_spectra import class_spectra
from gentheory.risk import EmpiricalRisk
from gentheory.seeds import generator

_OPERATORS = {"hessian": hessian, "ggn": ggn}


def classes(
    subjects: Checkpoint | Mapping[str, Checkpoint],
    *,
    curvature: Literal["hessian", "ggn"] = "hessian",
    rtol: float = 1e-4,
    max_steps: int = 300,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Drawing]:
    """One figure: λ_max, λ_min and |λ_min| / λ_max of each class, for one model or several.

    Errors are what the residuals of Lanczos allow. Raises `InputError` where targets are not
    classes.
    """
    matrix = _said(curvature)
    named = {"this model": subjects} if isinstance(subjects, Checkpoint) else subjects
    parts: list[pd.DataFrame] = []
    for series, subject in named.items():
        if progress is not None:
            progress(f"class spectra of {series}")
        options = {"rtol": rtol, "max_steps": max_steps}
        parts.append(_table(subject.risk, curvature, options, seed).assign(series=series))
    table = pd.concat(parts, ignore_index=True)
    return [
        Drawing(
            "class_spectra",
            "The curvature on each class's own examples",
            f"Largest and smallest eigenvalue of the {matrix} of the mean loss over one "
            "class, by Lanczos, and the ratio of their sizes: a large one is a saddle for that "
            "class. Bars are what the residuals allow.",
            {"class_spectra": table},
            partial(class_spectra, table),
        )
    ]


def _said(curvature: str) -> str:
    if curvature not in _OPERATORS:
        raise InputError("curvature", repr(curvature), "'hessian' or 'ggn'", "choose one")
    return {"hessian": "Hessian", "ggn": "GGN"}[curvature]


def _table(
    risk: EmpiricalRisk, curvature: str, options: Mapping[str, Any], seed: int
) -> pd.DataFrame:
    draws = generator(seed, "plot.classes")
    ends = class_extremes(risk, _OPERATORS[curvature], None, **options, generator=draws)
    targets = targets_of(risk)
    ratio = ends.smallest.abs() / ends.largest
    return pd.DataFrame(
        {
            "class": list(map(str, ends.classes)),
            "count": [int((targets == label).sum()) for label in ends.classes],
            "largest": ends.largest.tolist(),
            "largest_error": ends.residuals.tolist(),
            "smallest": ends.smallest.tolist(),
            "smallest_error": ends.residuals.tolist(),
            "ratio": ratio.tolist(),
            "ratio_error": (ends.residuals / ends.largest.abs() * (1 + ratio)).tolist(),
        }
    )
