"""Correlations of many resamples at once, each resample given by its rows' multiplicities.

A resample that repeats row i `counts[k, i]` times is that vector of weights: copies of a row are
ties with each other, and every sum over rows or pairs of rows becomes a weighted sum. The
results equal those of the functions in `rank` on the rows written out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gentheory.stats.clustered import pair_sums
from gentheory.stats.rank import MIN_ROWS, partial_correlation
from gentheory.stats.resample import Counts

_MAX_BLOCK = 2**22
"""Entries of a block of the [N, N] matrix of signs: 16 MiB in float32."""

_EXACT_IN_FLOAT32 = 2**23
"""Below this total weight of a resample, float32 holds every sum of ones and halves exactly."""


@dataclass(frozen=True)
class Column:
    """A column of data, shape [N], with what every resample needs to know about its order."""

    values: NDArray[np.float64]
    """Scaled into [-1, 1], which changes no correlation and keeps squares from overflowing."""
    codes: NDArray[np.intp]
    """Each row's place among the distinct values in rising order, from 0; shape [N]."""
    order: NDArray[np.intp]
    """Rows in rising order; shape [N]."""
    starts: NDArray[np.intp]
    """Where in `order` each distinct value begins."""

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Column":
        """Sort the column, once for all resamples."""
        _, codes, sizes = np.unique(values, return_inverse=True, return_counts=True)
        scale = np.abs(values).max(initial=0.0) or 1.0
        order = np.argsort(codes, kind="stable")
        return cls(values / scale, codes, order, np.cumsum(sizes) - sizes)

    def weights(self, counts: Counts) -> NDArray[np.float64]:
        """Total multiplicity of each distinct value in each resample."""
        ordered = counts[:, self.order]
        tied = len(self.starts) < len(self.order)
        return np.add.reduceat(ordered, self.starts, axis=1) if tied else ordered

    def untied_pairs(self, counts: Counts) -> NDArray[np.float64]:
        """Pairs of rows that this column tells apart, Σ_{i<j} w_i w_j [x_i ≠ x_j]; shape [K]."""
        tied = len(self.starts) < len(self.order)
        weights = self.weights(counts) if tied else counts
        return (counts.sum(axis=1) ** 2 - _row_dots(weights, weights)) / 2

    def ranks(self, counts: Counts) -> NDArray[np.float64]:
        """Rank of each row within each resample, ties sharing their mean rank; shape [K, N]."""
        weights = self.weights(counts)
        return (np.cumsum(weights, axis=1) - (weights - 1) / 2)[:, self.codes]


def kendall(
    counts: Counts, x: Column, y: Column, *, clusters: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Tau-b of each resample, shape [K]; nan where it is undefined. Costs O(K N²).

    The numerator is Σ_{i<j} w_i w_j sgn(x_i - x_j) sgn(y_i - y_j), a matrix product over blocks
    of the signs; the denominator follows from the weights of the ties. Both are exact. Rows of
    one of the G `clusters`, numbered from 0, have equal counts in every resample: with them the
    costs are O(N² + K G²).
    """
    scale = np.sqrt(x.untied_pairs(counts) * y.untied_pairs(counts))
    if clusters is None:
        return _ratio(counts, _net_concordance(counts, x, y), scale)
    drawn = counts[:, np.unique(clusters, return_index=True)[1]]
    net = _row_dots(drawn @ pair_sums(clusters, x.codes, y.codes), drawn) / 2
    return _ratio(counts, net, scale)


def partial_kendall(counts: Counts, x: Column, y: Column, given: Column) -> NDArray[np.float64]:
    """Partial tau of each resample, shape [K]; nan where it is undefined. Costs O(K N²)."""
    return _partial(kendall, counts, x, y, given)


def spearman(counts: Counts, x: Column, y: Column) -> NDArray[np.float64]:
    """Spearman's rho of each resample, shape [K], ranked within it; nan where undefined."""
    return _moment_correlation(counts, x.ranks(counts), y.ranks(counts))


def pearson(counts: Counts, x: Column, y: Column) -> NDArray[np.float64]:
    """Pearson's r of each resample, shape [K]; nan where it is undefined."""
    varies = (x.untied_pairs(counts) > 0) & (y.untied_pairs(counts) > 0)
    # Rounding of the mean would give a constant resample a variance, so ask the ties instead.
    return np.where(varies, _moment_correlation(counts, x.values, y.values), np.nan)


def partial_spearman(counts: Counts, x: Column, y: Column, given: Column) -> NDArray[np.float64]:
    """Spearman's partial rho of each resample, shape [K]; nan where it is undefined."""
    return _partial(spearman, counts, x, y, given)


def partial_pearson(counts: Counts, x: Column, y: Column, given: Column) -> NDArray[np.float64]:
    """Pearson's partial r of each resample, shape [K]; nan where it is undefined."""
    return _partial(pearson, counts, x, y, given)


def median(counts: Counts, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of each resample of a column [N], shape [K]; nan for a resample without rows."""
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(counts[:, order], axis=1)
    total = ends[:, -1]
    # The middle row, or the two middle ones: the first whose copies reach that place.
    places = [(ends <= middle[:, None]).sum(axis=1) for middle in ((total - 1) // 2, total // 2)]
    found = np.mean([values[order[np.minimum(p, len(values) - 1)]] for p in places], axis=0)
    return np.where(total > 0, found, np.nan)


def _partial(
    correlation: Callable[[Counts, Column, Column], NDArray[np.float64]],
    counts: Counts,
    x: Column,
    y: Column,
    given: Column,
) -> NDArray[np.float64]:
    pairs = (x, y), (x, given), (y, given)
    return partial_correlation(*(correlation(counts, *pair) for pair in pairs))


def _moment_correlation(
    counts: Counts, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted Pearson correlation of columns [N] or [K, N], centered before squaring."""
    total = counts.sum(axis=1, keepdims=True)
    dx = x - (counts * x).sum(axis=1, keepdims=True) / total
    dy = y - (counts * y).sum(axis=1, keepdims=True) / total
    weighted_x, weighted_y = counts * dx, counts * dy
    scale = np.sqrt(_row_dots(weighted_x, dx)) * np.sqrt(_row_dots(weighted_y, dy))
    return _ratio(counts, _row_dots(weighted_x, dy), scale)


def _ratio(
    counts: Counts, covariance: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    defined = (counts.sum(axis=1) >= MIN_ROWS) & (scale > 0)
    return np.clip(covariance / np.where(defined, scale, np.nan), -1.0, 1.0)


def _net_concordance(counts: Counts, x: Column, y: Column) -> NDArray[np.float64]:
    """Concordant less discordant pairs of each resample, shape [K], in bounded memory."""
    num_rows = counts.shape[1]
    exact = np.float32 if counts.sum(axis=1).max() < _EXACT_IN_FLOAT32 else np.float64
    weights, x_codes, y_codes = (a.astype(exact) for a in (counts, x.codes, y.codes))
    net = np.zeros(len(counts))
    step = max(1, _MAX_BLOCK // num_rows)
    for start in range(0, num_rows, step):
        stop = min(start + step, num_rows)
        signs = _signs(x_codes, start, stop) * _signs(y_codes, start, stop)
        signs[start:] /= 2  # each pair within the block is there twice
        net += _row_dots(weights[:, :stop] @ signs, counts[:, start:stop])
    return net


def _signs(codes: NDArray[np.floating], start: int, stop: int) -> NDArray[np.floating]:
    """The sign of codes[i] - codes[j] for all i < stop and start <= j < stop."""
    return np.sign(codes[:stop, None] - codes[None, start:stop])


def _row_dots(a: NDArray[np.floating], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("kn,kn->k", a, b)
