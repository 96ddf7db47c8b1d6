"""The hyper-parameters of each row, and which configurations differ in exactly one of them.

Rows with equal hyper-parameters are repeats of one configuration (seeds). Repeats share what
their configuration is worth: no statistic counts a pair within one configuration, and a
configuration weighs the same however often it was repeated.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gentheory.errors import InputError
from gentheory.stats.columns import label_indices


@dataclass(frozen=True)
class Configurations:
    """The C distinct configurations of H hyper-parameters among N rows."""

    axes: tuple[str, ...]
    """Names of the hyper-parameters."""
    codes: NDArray[np.intp]
    """Value of each configuration along each axis, as a place among the values; shape [C, H]."""
    of_row: NDArray[np.intp]
    """Each row's configuration, 0 … C-1; shape [N]."""

    @classmethod
    def of(cls, axes: Mapping[str, ArrayLike], num_rows: int) -> "Configurations":
        """Read them off columns of numbers or strings [N]; a seed is no hyper-parameter.

        Raises `InputError` without any axis, and for a column that has not one label a row.
        """
        if not axes:
            raise InputError("axes", "none", "at least one hyper-parameter", "name what varied")
        columns = [label_indices(f"axes[{name}]", axes[name], num_rows) for name in axes]
        codes, of_row = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
        return cls(tuple(axes), codes, of_row.reshape(-1))

    @property
    def weights(self) -> NDArray[np.float64]:
        """One over the repeats of each row's configuration, shape [N]."""
        return 1 / np.bincount(self.of_row, minlength=len(self.codes))[self.of_row]

    def groups(self, axes: Sequence[int]) -> NDArray[np.intp]:
        """Which configurations agree along these axes, numbered from 0; shape [C]."""
        if not len(axes):
            return np.zeros(len(self.codes), dtype=np.intp)
        return np.unique(self.codes[:, axes], axis=0, return_inverse=True)[1].reshape(-1)

    def lines(self, axis: int) -> Iterator[NDArray[np.intp]]:
        """Configurations that differ along `axis` alone: [B, n] for B lines of n, each n >= 2."""
        return self._split(np.arange(len(self.codes)), axis)

    def row_lines(self, axis: int) -> Iterator[NDArray[np.intp]]:
        """The same lines as rows, repeats included: [B, n] for B lines of n rows."""
        return self._split(self.of_row, axis)

    def _split(self, of_item: NDArray[np.intp], axis: int) -> Iterator[NDArray[np.intp]]:
        others = [place for place in range(len(self.axes)) if place != axis]
        line = self.groups(others)
        lengths = np.bincount(line)
        kept = np.flatnonzero(lengths[line[of_item]] > 1)
        order = kept[np.argsort(line[of_item[kept]], kind="stable")]
        _, starts, sizes = np.unique(line[of_item[order]], return_index=True, return_counts=True)
        for size in np.unique(sizes):
            yield order[starts[sizes == size][:, None] + np.arange(size)]
