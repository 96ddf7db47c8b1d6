"""Signs of differences summed over pairs of clusters of rows: what resamples of clusters need.

Where whole clusters are drawn, every sum over pairs of rows is one over pairs of clusters,
weighted by their multiplicities: O(N²) once and O(K G²) for K resamples of G clusters, in place
of O(K N²).
"""

import numpy as np
from numpy.typing import NDArray

_MAX_BLOCK = 2**22
"""Pairs of rows compared at once: 4 MiB a column."""


def pair_sums(labels: NDArray[np.intp], *columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """Σ over rows i of cluster a and j of cluster b of Π_c sgn(c_i - c_j); shape [G, G].

    `labels` holds each row's cluster, 0 … G-1, every one of them there; columns have shape [N].
    Exact, in bounded memory.
    """
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sorted_columns = [column[order] for column in columns]
    half = np.empty((len(starts), len(labels)))
    step = max(1, _MAX_BLOCK // max(1, len(labels)))
    for start in range(0, len(labels), step):
        block = slice(start, start + step)
        signs = _signs(sorted_columns[0], block)
        for column in sorted_columns[1:]:
            signs = signs * _signs(column, block)
        half[:, block] = np.add.reduceat(signs, starts, axis=0, dtype=np.int32)
    return np.add.reduceat(half, starts, axis=1)


def _signs(column: NDArray[np.intp], block: slice) -> NDArray[np.int8]:
    """sgn(c_i - c_j) for all rows i and the rows j of the block."""
    more, less = column[:, None] > column[block], column[:, None] < column[block]
    return more.view(np.int8) - less.view(np.int8)
