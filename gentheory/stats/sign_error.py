"""Sign error of a measure in each environment (Dziugaite et al. 2020, "In search of robust …").

An environment is a pair of configurations that differ in exactly one hyper-parameter. Averages
over environments hide those in which a measure fails; here they are all kept.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from gentheory.errors import InputError
from gentheory.stats.columns import finite_columns
from gentheory.stats.configurations import Configurations
from gentheory.stats.resample import Interval, draw_counts

_MAX_BLOCK = 2**21
"""Pairs of rows compared at once: 16 MiB a column."""


@dataclass(frozen=True)
class SignErrors:
    """The sign error of every environment, and what is left of them after the drop."""

    error: NDArray[np.float64]
    """0 where x orders every pair as y does, 0.5 at random, 1 where it reverses all; [E].

    nan where no pair has any weight."""
    effective_size: NDArray[np.float64]
    """(Σ w)² / Σ w² of each environment's pairs of repeats; [E]."""
    axis: NDArray[np.str_]
    """The hyper-parameter in which the two configurations of each environment differ; [E]."""
    rows: NDArray[np.intp]
    """The first row of each of the two configurations; [E, 2]."""
    kept: NDArray[np.bool_]
    """Whether its effective size reaches the threshold; [E]. All summaries see these alone."""
    mean: Interval
    """Over environments; resampled over configurations with their repeats."""

    @property
    def worst(self) -> float:
        """The largest sign error, nan without any environment."""
        return self.quantile(1.0)

    @property
    def num_dropped(self) -> int:
        """Environments too noisy to be counted."""
        return int((~self.kept).sum())

    def quantile(self, level: float) -> float:
        """The smallest sign error that a share of `level` of the environments does not exceed."""
        kept = self.error[self.kept]
        if not len(kept):
            return math.nan
        return float(np.quantile(kept, level, method="inverted_cdf"))


def sign_errors(
    x: ArrayLike,
    y: ArrayLike,
    axes: Mapping[str, ArrayLike],
    *,
    num_test: int | None = None,
    span: float = 1.0,
    min_effective_size: float = 1.0,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> SignErrors:
    """(1 - E[sgn(x - x') sgn(y - y')]) / 2 in every environment, over its pairs of repeats.

    Each pair of configurations is one environment, once; a tie counts 0.5. With `num_test`, the
    number n of test examples behind each y, pairs whose order the test set may have got wrong
    weigh less: w = (max(0, 1 - φ)² - 1/2)₊ with Hoeffding's φ = 2 exp(-2n (|y - y'| / 2 span)²).
    That holds where y is the mean of n numbers from an interval of length `span`: 1 for errors;
    a loss without bound has none. Environments whose effective size is below
    `min_effective_size`, or that have no weight, are dropped and marked (with S repeats it is at
    most S², 12 is usual for S = 10).

    `axes` maps each hyper-parameter to its values, one a row; columns have shape [N]. `mean` is
    resampled over configurations, so its `stderr` covers their draw and that of the repeats, not
    the test set; on small grids it is up to 1.3 times too large. Costs O(E S²), in bounded
    memory. Raises `InputError` as `kendall` and `bootstrap` do, and for a `num_test` or `span`
    that is not positive.
    """
    x, y = finite_columns({"x": x, "y": y})
    if num_test is not None and num_test < 1:
        raise InputError("num_test", str(num_test), "at least 1", "give None for equal weights")
    if not span > 0:
        raise InputError("span", str(span), "a positive length", "give 1 for error rates")
    found = Configurations.of(axes, len(x))
    pairs, axis = _environments(found)
    error, effective = _errors(x, y, pairs, found, num_test, span)
    kept = np.isfinite(error) & (effective >= min_effective_size * (1 - 1e-12))
    first = np.unique(found.of_row, return_index=True)[1]
    counts = draw_counts(np.arange(len(first)), num_resamples, seed=seed)
    graph = [
        _graph(column[kept], pairs[kept], len(first)) for column in (error, np.ones(len(axis)))
    ]
    samples = [_quadratic(n, graph[0]) / _known(_quadratic(n, graph[1])) for n in counts]
    mean = Interval.from_resamples(
        float(error[kept].mean()) if kept.any() else math.nan,
        np.concatenate([np.empty(0), *samples]),
        count=len(x),
        level=level,
    )
    return SignErrors(error, effective, np.array(found.axes)[axis], first[pairs], kept, mean)


def _environments(found: Configurations) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of configurations [E, 2] that differ along one axis, and that axis [E]."""
    pairs, axes = [np.empty((0, 2), dtype=np.intp)], [np.empty(0, dtype=np.intp)]
    for axis in range(len(found.axes)):
        for lines in found.lines(axis):
            one, other = np.triu_indices(lines.shape[1], 1)
            pairs.append(np.stack([lines[:, one], lines[:, other]], axis=-1).reshape(-1, 2))
            axes.append(np.full(len(pairs[-1]), axis))
    return np.concatenate(pairs), np.concatenate(axes)


def _errors(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    pairs: NDArray[np.intp],
    found: Configurations,
    num_test: int | None,
    span: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sign error and effective size of each environment, shape [E] each."""
    order = np.argsort(found.of_row, kind="stable")
    repeats = np.bincount(found.of_row)
    starts = np.cumsum(repeats) - repeats
    error, effective = np.full(len(pairs), math.nan), np.zeros(len(pairs))
    shapes, which = np.unique(repeats[pairs], axis=0, return_inverse=True)
    for place, (one, other) in enumerate(shapes):
        members = np.flatnonzero(which.reshape(-1) == place)
        step = max(1, _MAX_BLOCK // int(one * other))
        for start in range(0, len(members), step):
            part = members[start : start + step]
            i = order[starts[pairs[part, 0], None] + np.arange(one)][:, :, None]
            j = order[starts[pairs[part, 1], None] + np.arange(other)][:, None, :]
            wrong = (1 - np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])) / 2
            weight = _noise_weight(y[i] - y[j], num_test, span)
            total, squares = weight.sum((1, 2)), (weight**2).sum((1, 2))
            error[part] = (weight * wrong).sum((1, 2)) / _known(total)
            effective[part] = np.nan_to_num(total**2 / _known(squares))
    return error, effective


def _noise_weight(
    difference: NDArray[np.float64], num_test: int | None, span: float
) -> NDArray[np.float64]:
    if num_test is None:
        return np.ones_like(difference)
    chance = 2 * np.exp(-2 * num_test * (difference / (2 * span)) ** 2)
    return np.maximum(np.maximum(1 - chance, 0) ** 2 - 0.5, 0)


def _known(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """With nan in place of 0."""
    return np.where(total > 0, total, math.nan)


def _graph(values: NDArray[np.float64], pairs: NDArray[np.intp], size: int) -> csr_array:
    return csr_array((values, (pairs[:, 0], pairs[:, 1])), shape=(size, size))


def _quadratic(counts: NDArray[np.float64], graph: csr_array) -> NDArray[np.float64]:
    """Σ n_c n_c' over environments, weighted by the graph's values; shape [K]."""
    return np.einsum("kc,kc->k", counts @ graph, counts)
