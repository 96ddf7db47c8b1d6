"""The tangent kernel's spectrum, before and after training, and how it moves on the way."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from gentheory.checkpoint import Checkpoint
from gentheory.curvature.linearized import MAX_MEMORY
from gentheory.figures.drawing import Drawing, Progress, interval, measured
from gentheory.figures.stages import Stage, times
from gentheory.plots.along_training import along_training
from gentheory.plots.kernel_spectrum import kernel_spectrum
from gentheory.seeds import generator
from gentheory.tangent import Sample, Spectrum, kernel_of

_DRIFT = {
    "ntk.distance": "distance from the initial kernel, 1 − cosine",
    "ntk.alignment": "alignment with the labels",
}


def kernel(
    checkpoint: Checkpoint,
    found: Sequence[Stage] = (),
    *,
    max_examples: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Drawing]:
    """Two figures: every eigenvalue of K / N; distance and alignment at each stage.

    The first alone where there are no three stages; before training it stands where the initial
    parameters are known. Of more than `max_examples` examples a random subset is taken.
    """
    drawings = [_spectrum(checkpoint, max_examples, seed, progress)]
    if len(found) > 2 and checkpoint.initial is not None:
        drawings.append(_drift(found, max_examples, seed, progress))
    return drawings


def _spectrum(
    checkpoint: Checkpoint, max_examples: int, seed: int, progress: Progress | None
) -> Drawing:
    sample = Sample.of(checkpoint.risk, max_examples, generator(seed, "plot.kernel"))
    risks = {"after training": sample.risk}
    if checkpoint.initial is not None:
        risks = {"at initialization": sample.at(checkpoint.initial.to(sample.risk.theta)), **risks}
    parts: list[pd.DataFrame] = []
    for series, risk in risks.items():
        if progress is not None:
            progress(f"kernel {series}")
        values = Spectrum.of(kernel_of(risk, MAX_MEMORY), checkpoint.risk.dtype)
        known = values.eigenvalues[: values.rank].numpy(force=True)
        index = np.arange(1, len(known) + 1)
        parts.append(pd.DataFrame({"series": series, "index": index, "eigenvalue": known}))
    table = pd.concat(parts, ignore_index=True)

    def draw(**sizes: Any) -> list[Axes]:
        return [kernel_spectrum(table, **sizes)]

    return Drawing(
        "kernel_spectrum",
        "Eigenvalues of the tangent kernel",
        f"Of K / N on {len(sample.order)} training examples, K the mean over the outputs; those "
        "below rounding are left out.",
        {"kernel_spectrum": table},
        draw,
        {"width": 3.9},
    )


def _drift(
    found: Sequence[Stage], max_examples: int, seed: int, progress: Progress | None
) -> Drawing:
    by, columns = times(found, "plot kernel")
    rows: list[dict[str, Any]] = []
    asked = {name: {"max_examples": max_examples} for name in _DRIFT}
    for stage, time in zip(found, columns, strict=True):
        known = measured(stage.checkpoint, asked, seed=seed, progress=progress)
        rows += [
            {**time, "panel": panel, "series": "tangent kernel", **interval(known[name])}
            for name, panel in _DRIFT.items()
        ]
    table = pd.DataFrame(rows)
    return Drawing(
        "kernel_drift",
        "The tangent kernel along training",
        "Its distance from the kernel at initialization, and its centred alignment with the "
        "labels; bands are 95 % intervals over the draw of the examples, none where all are taken.",
        {"kernel_drift": table},
        partial(
            along_training,
            table,
            quantity="share (no unit)",
            by=by,
            limits=(-0.03, 1.03),
            columns=2,
            width=8.0,
        ),
    )
