"""The spectral density of the Hessian, the GGN's beside it, with their largest eigenvalues."""

from functools import partial

import numpy as np
import pandas as pd

from gentheory.checkpoint import Checkpoint
from gentheory.estimate import Estimate
from gentheory.figures.drawing import CONFIDENT, Drawing, Progress, measured
from gentheory.plots.spectral_density import spectral_density

_MATRICES = {"Hessian": "hessian", "GGN": "ggn"}
_MOST = 20
"""Eigenvalues that are marked, where there are as many outputs."""


def density(
    checkpoint: Checkpoint,
    *,
    num_probes: int = 8,
    num_steps: int = 60,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Drawing]:
    """One figure: `spectra.density` of both matrices, and as many largest eigenvalues as outputs.

    Bands cover the draw of the probes (95 %); bars of the eigenvalues are their residuals.
    """
    marked = min(checkpoint.risk.num_outputs, _MOST, checkpoint.risk.num_params)
    sizes = {"num_probes": num_probes, "num_steps": num_steps}
    options = {
        f"{measure}:{matrix}": {"curvature": matrix, **given}
        for measure, given in (("spectra.density", sizes), ("spectra.top", {"k": marked}))
        for matrix in _MATRICES.values()
    }
    found = measured(checkpoint, options, seed=seed, progress=progress)
    curves = pd.concat(
        [_curve(name, found[f"spectra.density:{key}"]) for name, key in _MATRICES.items()],
        ignore_index=True,
    )
    largest = pd.concat(
        [_largest(name, found[f"spectra.top:{key}"]) for name, key in _MATRICES.items()],
        ignore_index=True,
    )
    marks = f"the {marked} largest eigenvalues" if marked > 1 else "the largest eigenvalue"
    return [
        Drawing(
            "density",
            "Spectral density of the Hessian and of the GGN",
            f"By stochastic Lanczos quadrature, {num_probes} probes of {num_steps} steps, weight "
            f"decay included; bands are 95 % intervals over the probes. Triangles: {marks}, one "
            "for each output, by Lanczos.",
            {"density": curves, "outliers": largest},
            partial(spectral_density, curves, largest, marks=f"{marks}, ± residual"),
        )
    ]


def _curve(series: str, estimate: Estimate) -> pd.DataFrame:
    height, band = (np.asarray(estimate.stats[name]) for name in ("density", "band"))
    return pd.DataFrame(
        {
            "series": series,
            "eigenvalue": estimate.stats["grid"],
            "density": height,
            "low": height - CONFIDENT * band,
            "high": height + CONFIDENT * band,
        }
    )


def _largest(series: str, estimate: Estimate) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "series": series,
            "eigenvalue": estimate.stats["eigenvalues"],
            "stderr": estimate.stats["residuals"],
        }
    )
