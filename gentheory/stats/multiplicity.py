"""Correction for testing many measures at once: family-wise (Holm 1979) and false discoveries."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, norm

from gentheory.errors import InputError
from gentheory.stats.resample import Interval


def p_values(intervals: Iterable[Interval], *, null: float = 0.0) -> NDArray[np.float64]:
    """Two-sided p-values of value = `null`, by the normal law: 2 Φ(-|value - null| / stderr).

    `null` is 0 for correlations and 0.5 for sign errors. nan where value or `stderr` is; with a
    `stderr` of 0, 1 where the value is `null` and 0 elsewhere.
    """
    scores = [_score(each.value - null, each.stderr) for each in intervals]
    return np.asarray(2 * norm.sf(np.array(scores, dtype=np.float64)))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values, max_{j <= i} (m - j + 1) p_(j), at most 1; shape [m].

    Rejecting those up to α keeps the chance of any false rejection below α, whatever the
    dependence of the tests. Those that are nan stay nan and do not count towards m. Raises
    `InputError` for what is not a column of probabilities.
    """
    p = _probabilities(p)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(len(p), math.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted


def benjamini_hochberg(p: ArrayLike, *, dependent: bool = False) -> NDArray[np.float64]:
    """Adjusted p-values of Benjamini and Hochberg (1995), min_{j >= i} m p_(j) / j; shape [m].

    Rejecting those up to α keeps the expected share of false rejections among all below α, for
    independent or positively dependent tests; with `dependent`, for all (Benjamini and Yekutieli
    2001), at a factor Σ 1/j. nan and errors as for `holm`.
    """
    p = _probabilities(p)
    known = np.isfinite(p)
    adjusted = np.full(len(p), math.nan)
    if known.any():
        method = "by" if dependent else "bh"
        adjusted[known] = false_discovery_control(p[known], method=method)
    return adjusted


def _score(distance: float, stderr: float) -> float:
    if stderr == 0:
        return math.inf if distance else 0.0
    return abs(distance) / stderr


def _probabilities(p: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(p, dtype=np.float64)
    wrong = np.flatnonzero((array < 0) | (array > 1))
    if array.ndim != 1 or len(wrong):
        found = str(array[wrong[0]]) if array.ndim == 1 else f"shape {array.shape}"
        raise InputError("p", found, "a column of probabilities", "give p-values or nan")
    return array
