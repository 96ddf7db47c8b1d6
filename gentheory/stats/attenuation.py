"""Correlations without what the columns' own errors take off them (Spearman 1904).

A measure known up to its `stderr` correlates less than the number it estimates. The corrections
take the errors to be unbiased, as large as stated, and independent of each other and of all else.
They do not mend errors that two columns share, nor what a `stderr` does not cover, and they add
no knowledge: intervals widen, and few or noisy rows make them wild. For an interval, pass the
function to `bootstrap`.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

from gentheory.errors import InputError
from gentheory.stats.columns import finite_columns
from gentheory.stats.rank import kendall, pearson

_EXTRA_NOISE = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Variances of added noise, in units of that which is there already."""

_MAX_BLOCK = 2**20


def reliability(x: ArrayLike, stderr: ArrayLike) -> float:
    """1 - mean(stderr²) / var(x): the share of a column's variance that is not its errors'.

    Columns have shape [N]; the variance is that with N - 1. nan for a constant column; negative
    where the errors are larger than the spread. Raises `InputError` as `kendall` does, and for a
    negative `stderr`.
    """
    x, stderr = _with_errors("x", x, stderr)
    if len(x) < 2 or np.ptp(x) == 0:
        return math.nan
    return float(1 - (stderr**2).mean() / x.var(ddof=1))


def disattenuated_pearson(
    x: ArrayLike, y: ArrayLike, x_stderr: ArrayLike, y_stderr: ArrayLike
) -> float:
    """Pearson's r over √(reliability of x · reliability of y).

    Consistent for the correlation of what x and y estimate; not bounded by 1 in a sample, which
    then says that the errors are overstated or the rows few. nan where a reliability is not
    positive: the column holds nothing but its errors. Columns have shape [N]. Raises `InputError`
    as `reliability` does.
    """
    x, x_stderr = _with_errors("x", x, x_stderr)
    y, y_stderr = _with_errors("y", y, y_stderr)
    shares = reliability(x, x_stderr), reliability(y, y_stderr)
    if not min(shares) > 0:
        return math.nan
    return pearson(x, y) / math.sqrt(shares[0] * shares[1])


def disattenuated_kendall(
    x: ArrayLike, y: ArrayLike, x_stderr: ArrayLike, y_stderr: ArrayLike
) -> float:
    """Kendall's tau-b extrapolated to columns without errors (Cook and Stefanski 1994).

    SIMEX with the simulation done in closed form: normal noise of λ times the stated variance
    turns sgn(x_i - x_j) into erf((x_i - x_j) / √(2λ(σ_i² + σ_j²))) in expectation; a parabola
    through tau at λ = 0, 0.5, … 2 is read at λ = -1, where no error is left. An approximation
    that takes back most of the attenuation, not all: for normal columns, one of them with errors,
    0.90 to 0.97 of it at a reliability of 0.9, 0.77 to 0.90 at 0.8, about half at 0.5;
    clipped to [-1, 1]. Columns have shape
    [N]; costs O(N²), in bounded memory. nan and errors as for `kendall` and `reliability`.
    """
    x, x_stderr = _with_errors("x", x, x_stderr)
    y, y_stderr = _with_errors("y", y, y_stderr)
    tau = kendall(x, y)
    if not (x_stderr.any() or y_stderr.any()) or math.isnan(tau):
        return tau
    taus = _noisy_kendall(x, y, x_stderr**2, y_stderr**2)
    parabola = np.polynomial.Polynomial.fit(_EXTRA_NOISE, taus, 2)
    return float(np.clip(parabola(-1.0), -1.0, 1.0))


def _noisy_kendall(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_variance: NDArray[np.float64],
    y_variance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Expected tau-b after adding normal noise of λ times these variances [N], for every λ."""
    sums = np.zeros((3, len(_EXTRA_NOISE)))
    scores = [np.empty(0), np.empty(0)]
    step = max(1, _MAX_BLOCK // len(x))
    for start in range(0, len(x), step):
        rows = np.arange(start, min(start + step, len(x)))
        later = rows[:, None] < np.arange(len(x))  # each pair once
        for place, (column, noise) in enumerate(((x, x_variance), (y, y_variance)), start=1):
            difference = (column[rows, None] - column)[later]
            variance = (noise[rows, None] + noise)[later]
            untied = [(difference != 0).sum(), ((difference != 0) | (variance > 0)).sum()]
            sums[place] += np.where(np.array(_EXTRA_NOISE) > 0, untied[1], untied[0])
            scores[place - 1] = _scores(difference, variance)
        for place, extra in enumerate(_EXTRA_NOISE):
            signs = [np.sign(z) if extra == 0 else erf(z / math.sqrt(2 * extra)) for z in scores]
            sums[0, place] += float(signs[0] @ signs[1])
    return sums[0] / np.sqrt(sums[1] * sums[2])


def _scores(difference: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """In units of the noise's standard deviation; without noise ±∞, or 0 where tied."""
    noisy = variance > 0
    scores = difference / np.sqrt(np.where(noisy, variance, 1))
    scores[~noisy] = np.where(difference == 0, 0, np.copysign(np.inf, difference))[~noisy]
    return scores


def _with_errors(
    name: str, column: ArrayLike, stderr: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, errors = finite_columns({name: column, f"{name}_stderr": stderr})
    negative = np.flatnonzero(errors < 0)
    if len(negative):
        place, found = f"{name}_stderr[{negative[0]}]", str(errors[negative[0]])
        raise InputError(place, found, "0 or more", "give standard errors")
    return values, errors
