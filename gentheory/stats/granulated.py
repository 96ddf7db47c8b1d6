"""Kendall's tau along one hyper-parameter at a time (Jiang et al. 2020, section 4)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gentheory.stats.columns import cluster_indices, finite_columns
from gentheory.stats.configurations import Configurations
from gentheory.stats.resample import Counts, Interval, draw_counts

_MAX_BLOCK = 2**21
"""Entries of a block of weights or of signs: 16 MiB."""


@dataclass(frozen=True)
class Granulated:
    """How well x ranks y where one hyper-parameter varies and all others stand still."""

    psi: dict[str, Interval]
    """ψ of each hyper-parameter; nan where no two configurations differ in it alone."""
    mean: Interval
    """Ψ, the mean of the ψ that are defined."""
    lines: dict[str, int]
    """Lines of configurations that each ψ is the mean over."""


def granulated_kendall(
    x: ArrayLike,
    y: ArrayLike,
    axes: Mapping[str, ArrayLike],
    *,
    clusters: ArrayLike | None = None,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Granulated:
    """ψ_h = mean over lines of mean over pairs of sgn(x - x') sgn(y - y'), and Ψ = mean_h ψ_h.

    A line holds the configurations that differ in hyper-parameter h alone; its pairs are of
    different configurations, in any repeats, and a tie counts as 0. `axes` maps each
    hyper-parameter to its values, one a row; columns have shape [N]. The bootstrap draws
    `clusters` with replacement: by default whole configurations with their repeats, so that its
    intervals cover the draw of both; give the seeds where those are shared by all configurations.
    Costs O(K Σ n²) for K resamples and lines of n rows, in bounded memory. Raises `InputError`
    as `kendall` and `bootstrap` do, and for axes without one label a row.
    """
    x, y = finite_columns({"x": x, "y": y})
    found = Configurations.of(axes, len(x))
    labels = cluster_indices(found.of_row if clusters is None else clusters, len(x))
    whole = _psi(np.ones((1, len(x))), x, y, found)[0]
    drawn = draw_counts(labels, num_resamples, seed=seed)
    empty = np.empty((0, len(whole)))
    samples = np.concatenate([empty, *(_psi(counts, x, y, found) for counts in drawn)])
    psi = {
        name: Interval.from_resamples(float(value), column, count=len(x), level=level)
        for name, value, column in zip(found.axes, whole, samples.T, strict=True)
    }
    mean = Interval.from_resamples(
        float(_mean(whole[None])[0]), _mean(samples), count=len(x), level=level
    )
    lines = [sum(len(block) for block in found.lines(place)) for place in range(len(whole))]
    return Granulated(psi, mean, dict(zip(found.axes, lines, strict=True)))


def _mean(psi: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the axes [K, H] for which ψ is defined, shape [K]; nan where there is none."""
    known = np.isfinite(psi)
    return np.where(known, psi, 0).sum(axis=1) / np.where(known.any(1), known.sum(1), math.nan)


def _psi(
    counts: Counts, x: NDArray[np.float64], y: NDArray[np.float64], found: Configurations
) -> NDArray[np.float64]:
    """ψ of each resample and axis, shape [K, H]."""
    weights = counts * found.weights
    psi = np.full((len(counts), len(found.axes)), math.nan)
    for axis in range(len(found.axes)):
        total, defined = np.zeros(len(counts)), np.zeros(len(counts))
        for lines in found.row_lines(axis):
            step = max(1, _MAX_BLOCK // (lines.shape[1] * max(len(counts), lines.shape[1])))
            for start in range(0, len(lines), step):
                rows = lines[start : start + step]
                net, pairs = _line_sums(weights, x[rows], y[rows], found.of_row[rows], rows)
                known = pairs > 0  # copies of one configuration alone leave no pair
                total += np.where(known, net / np.where(known, pairs, 1), 0).sum(axis=0)
                defined += known.sum(axis=0)
        psi[:, axis] = total / np.where(defined > 0, defined, math.nan)
    return psi


def _line_sums(
    weights: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    configuration: NDArray[np.intp],
    rows: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Net concordance and number of the ordered pairs of each line, weighted; each [B, K]."""
    w = weights[:, rows].transpose(1, 0, 2)
    net, pairs = np.zeros(w.shape[:2]), np.zeros(w.shape[:2])
    step = max(1, _MAX_BLOCK // (rows.shape[0] * rows.shape[1]))
    for start in range(0, rows.shape[1], step):
        part = slice(start, start + step)
        differ = (configuration[:, :, None] != configuration[:, None, part]).astype(float)
        signs = np.sign(x[:, :, None] - x[:, None, part]) * differ
        signs *= np.sign(y[:, :, None] - y[:, None, part])
        net += np.einsum("bkn,bkn->bk", w @ signs, w[:, :, part])
        pairs += np.einsum("bkn,bkn->bk", w @ differ, w[:, :, part])
    return net, pairs
