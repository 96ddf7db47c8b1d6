"""What a column of numbers or of labels must be before anything is computed from it."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gentheory.errors import InputError


def finite_columns(columns: Mapping[str, ArrayLike]) -> tuple[NDArray[np.float64], ...]:
    """The named columns as float64 arrays of shape [N].

    Raises `InputError` where one is not 1-D, not made of real numbers, differs in length from
    the first, or has an entry that is not finite (named by its index).
    """
    arrays = tuple(_finite(name, column) for name, column in columns.items())
    same_length(dict(zip(columns, arrays, strict=True)))
    return arrays


def same_length(columns: Mapping[str, NDArray[np.generic]]) -> int:
    """The common length N of the named columns; raises `InputError` where they have none."""
    if not columns:
        raise InputError("columns", "none", "at least one column", "give the data to resample")
    first = next(iter(columns))
    for name, column in columns.items():
        if column.ndim != 1:
            raise InputError(name, f"shape {column.shape}", "one dimension", "flatten it")
        if len(column) != len(columns[first]):
            found, expected = f"{len(column)} entries", f"{len(columns[first])} as in {first}"
            raise InputError(name, found, expected, "give one entry for each row")
    return len(columns[first])


def cluster_indices(clusters: ArrayLike | None, num_rows: int) -> NDArray[np.intp]:
    """Index of each row's cluster, 0 … G-1 in the order of the labels; None: a row is a cluster.

    Raises `InputError` as `label_indices` does.
    """
    return (
        np.arange(num_rows) if clusters is None else label_indices("clusters", clusters, num_rows)
    )


def label_indices(name: str, column: ArrayLike, num_rows: int) -> NDArray[np.intp]:
    """Place of each row's label among the distinct ones in rising order, from 0; shape [N].

    Labels are numbers or strings, shape [N]. Raises `InputError` for any other shape and for
    labels that do not sort (None among strings) or are nan.
    """
    labels = np.asarray(column)
    if labels.shape != (num_rows,):
        found, expected = f"shape {labels.shape}", f"({num_rows},), one label for each row"
        raise InputError(name, found, expected, "label every row once")
    missing = np.flatnonzero(labels != labels)
    if len(missing):
        cure = "drop the row or give it a label of its own"
        raise InputError(f"{name}[{missing[0]}]", "nan", "a label", cure)
    try:
        return np.unique(labels, return_inverse=True)[1]
    except TypeError as error:
        cure = "label every row with a string or every row with a number"
        raise InputError(name, str(error), "labels of one kind", cure) from error


def _finite(name: str, column: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(column)
    if found.dtype.kind not in "biuf":
        raise InputError(name, f"dtype {found.dtype}", "real numbers", "convert it to floats")
    array = found.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(array))
    if array.ndim == 1 and len(wrong):
        place, value = f"{name}[{wrong[0]}]", str(array[wrong[0]])
        raise InputError(place, value, "a finite number", "filter such rows out beforehand")
    return array
