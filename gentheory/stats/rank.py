"""Correlation of two columns: Kendall's tau-b, Spearman's rho, Pearson's r; partial forms.

Each is nan, not an error, where it is undefined: with fewer than three rows, or where a column
is constant. Kendall 1938, 1942, 1945; Spearman 1904.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from gentheory.stats.columns import finite_columns

MIN_ROWS = 3
"""Two rows correlate perfectly whatever they are, so fewer than three say nothing."""


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b, (P - Q) / √((P + Q + T)(P + Q + U)), in O(N log N).

    Over all pairs of rows, P are concordant, Q discordant, T tied in `y` only, U in `x` only;
    a pair tied in both counts nowhere. Columns have shape [N]. Raises `InputError` where they
    differ in length or hold an entry that is not finite.

    >>> round(kendall([1, 2, 3, 4], [1, 3, 2, 4]), 4)
    0.6667
    """
    x, y = finite_columns({"x": x, "y": y})
    if _undefined(x) or _undefined(y):
        return math.nan
    # The exact p-value, which nobody asked for, would take longer than tau itself.
    tau, _ = np.asarray(stats.kendalltau(x, y, method="asymptotic"))
    return float(tau)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rho: Pearson's r of the ranks, ties sharing their mean rank.

    Columns have shape [N]. Raises `InputError` as `kendall` does.
    """
    x, y = finite_columns({"x": x, "y": y})
    return pearson(stats.rankdata(x), stats.rankdata(y))


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's r: the covariance over the product of the standard deviations.

    Columns have shape [N]. Raises `InputError` as `kendall` does.
    """
    x, y = finite_columns({"x": x, "y": y})
    if _undefined(x) or _undefined(y):
        return math.nan
    return float(np.clip(_standardized(x) @ _standardized(y), -1.0, 1.0))


def partial_kendall(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    """Kendall's partial tau, (t_xy - t_xz t_yz) / √((1 - t_xz²)(1 - t_yz²)), z = `given`.

    It is nan where `given` orders `x` or `y` completely. It discounts `given`, but is not a test
    of conditional independence: if x = z + e and y = z + e', all normal with unit variance, then
    t_xz = t_yz = 1/2, t_xy = 1/3 and the partial tau is 1/9. It is 0 for binary columns which
    depend on each other through `given` alone. Columns have shape [N]. Raises `InputError` as
    `kendall` does.
    """
    x, y, given = finite_columns({"x": x, "y": y, "given": given})
    return _partial(kendall, x, y, given)


def partial_spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    """Spearman's partial rho: Pearson's partial r of the ranks.

    It is nan where `given` orders `x` or `y` completely. Columns have shape [N]. Raises
    `InputError` as `kendall` does.
    """
    x, y, given = finite_columns({"x": x, "y": y, "given": given})
    return _partial(spearman, x, y, given)


def partial_pearson(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    """Pearson's partial r, the correlation of what a line through `given` leaves of `x` and `y`.

    (r_xy - r_xz r_yz) / √((1 - r_xz²)(1 - r_yz²)), z = `given`; 0 in expectation for normal
    columns which depend on each other through `given` alone. It is nan where `x` or `y` is a
    line of `given`. Columns have shape [N]. Raises `InputError` as `kendall` does.
    """
    x, y, given = finite_columns({"x": x, "y": y, "given": given})
    return _partial(pearson, x, y, given)


def partial_correlation(
    xy: NDArray[np.float64], xz: NDArray[np.float64], yz: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The partial correlation from the three, entry by entry; nan where it is undefined."""
    remainder = np.stack([1 - xz**2, 1 - yz**2])
    # A tau that is not ±1 keeps 1 - tau² above 1 / (number of pairs); below this is rounding.
    remainder[remainder < 64 * np.finfo(np.float64).eps] = np.nan
    return np.clip((xy - xz * yz) / np.sqrt(remainder.prod(axis=0)), -1.0, 1.0)


def _partial(
    correlation: Callable[[ArrayLike, ArrayLike], float],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    given: NDArray[np.float64],
) -> float:
    pairs = (x, y), (x, given), (y, given)
    return float(partial_correlation(*(np.asarray(correlation(*pair)) for pair in pairs)))


def _undefined(column: NDArray[np.float64]) -> bool:
    return len(column) < MIN_ROWS or bool((column == column[0]).all())


def _standardized(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean 0 and norm 1, scaled first so that no square overflows."""
    scaled = column / np.abs(column).max()
    centered = scaled - scaled.mean()
    return centered / np.linalg.norm(centered)
