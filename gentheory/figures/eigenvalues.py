"""The extreme eigenvalues of the Hessian and of the GGN along training."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

from gentheory.estimate import Estimate
from gentheory.figures.drawing import NARROW, Drawing, Progress, measured
from gentheory.figures.stages import Stage, times
from gentheory.plots.along_training import along_training


def eigenvalues(
    found: Sequence[Stage], *, k: int = 3, seed: int = 0, progress: Progress | None = None
) -> list[Drawing]:
    """One figure: the k largest eigenvalues and, of the Hessian, the size of the smallest.

    Bands are the residuals. Raises `InputError` for less than two stages.
    """
    by, columns = times(found, "plot eigenvalues")
    rows: list[dict[str, Any]] = []
    for stage, time in zip(found, columns, strict=True):
        top = min(k, stage.checkpoint.risk.num_params)
        asked = {
            "spectra.top:hessian": {"curvature": "hessian", "k": top},
            "spectra.bottom": {"curvature": "hessian"},
            "spectra.top:ggn": {"curvature": "ggn", "k": top},
        }
        known = measured(stage.checkpoint, asked, seed=seed, progress=progress)
        rows += [{**time, **row} for row in _largest("Hessian", known["spectra.top:hessian"])]
        rows += [{**time, **_smallest(known["spectra.bottom"])}]
        rows += [{**time, **row} for row in _largest("GGN", known["spectra.top:ggn"])]
    table = pd.DataFrame(rows)
    return [
        Drawing(
            "eigenvalues",
            "Extreme eigenvalues along training",
            f"The {k} largest eigenvalues of the Hessian and of the GGN on the training examples, "
            "by Lanczos, and the size of the Hessian's smallest where it is negative; bands are "
            "the residuals.",
            {"eigenvalues": table},
            partial(
                along_training,
                table,
                quantity="eigenvalue (loss per squared parameter)",
                by=by,
                columns=2,
                width=8.0,
            ),
            {**NARROW},
        )
    ]


def _largest(panel: str, estimate: Estimate) -> list[dict[str, Any]]:
    ends = zip(estimate.stats["eigenvalues"], estimate.stats["residuals"], strict=True)
    return [
        {
            "panel": panel,
            "series": f"λ{place}",
            "value": value,
            "low": value - error,
            "high": value + error,
        }
        for place, (value, error) in enumerate(ends, 1)
    ]


def _smallest(estimate: Estimate) -> dict[str, Any]:
    size, error = -estimate.value, estimate.stderr
    return {
        "panel": "Hessian",
        "series": "−λ_min",
        "value": size,
        "low": size - error,
        "high": size + error,
    }
