"""How well a score tells two kinds of rows apart, and where to cut it: the ROC curve.

Rows with `positive` are those to be found by a large score. Scores have shape [N] and are finite.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from gentheory.stats.columns import finite_columns


def auroc(score: ArrayLike, positive: ArrayLike) -> float:
    """P(score of a positive > score of a negative), ties counted half: Mann and Whitney's U.

    nan where all rows are of one kind. Raises `InputError` where the columns differ in length or
    hold an entry that is not finite. Hanley and McNeil 1982.

    >>> auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    0.75
    """
    score, kinds = finite_columns({"score": score, "positive": positive})
    found = kinds > 0
    pairs = int(found.sum()) * int((~found).sum())
    if not pairs:
        return math.nan
    ranks = rankdata(score)[found]
    return float(ranks.sum() - len(ranks) * (len(ranks) + 1) / 2) / pairs


def youden(score: ArrayLike, positive: ArrayLike) -> float:
    """The cut c at which "score > c" has the largest sensitivity + specificity − 1.

    Half-way between two neighbouring scores; of equally good cuts the lowest. nan where all rows,
    or all scores, are one. Raises `InputError` as `auroc` does. Youden 1950.

    >>> youden([0.1, 0.4, 0.6, 0.8], [False, False, True, True])
    0.5
    """
    score, kinds = finite_columns({"score": score, "positive": positive})
    values, places = np.unique(score, return_inverse=True)
    if len(values) < 2 or len(np.unique(kinds > 0)) < 2:
        return math.nan
    below = _cumulated(places, kinds <= 0) - _cumulated(places, kinds > 0)
    best = int(np.argmax(below[:-1]))
    return float(values[best] + (values[best + 1] - values[best]) / 2)


def _cumulated(places: NDArray[np.intp], of: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of the rows `of` a kind that lie at or below each distinct score."""
    counted = np.bincount(places[of], minlength=int(places.max()) + 1)
    return np.cumsum(counted) / of.sum()
