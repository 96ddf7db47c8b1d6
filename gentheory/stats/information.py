"""Conditional mutual information between the orders of two columns (Jiang et al. 2020, section 5).

How much the order of x still says about the order of y once some of the hyper-parameters of both
models are known: a measure that merely echoes one hyper-parameter says nothing any more.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from gentheory.errors import InputError
from gentheory.stats.columns import finite_columns
from gentheory.stats.configurations import Configurations
from gentheory.stats.resample import Interval

_MAX_BLOCK = 2**21
"""Entries of a block of the [N, N] matrix of signs: 16 MiB."""

_MAX_BYTES = 2**30

_MOST_GIVEN = 2
"""Hyper-parameters given at once, as in the paper: more leave few pairs a cell."""


@dataclass(frozen=True)
class Information:
    """I_S for every set S of given hyper-parameters, and K, the least of them."""

    normalized: dict[tuple[str, ...], float]
    """I(V_x; V_y | U_S) / H(V_y | U_S) in [0, 1]; nan where U_S decides the order of y."""
    least: Interval
    """K, with the interval of a jackknife over configurations."""
    given: tuple[str, ...]
    """The set S at which the least is attained."""


@dataclass(frozen=True)
class _Sums:
    """Sums over partners of pairs of configurations, or over cells of pairs."""

    pairs: NDArray[np.float64]
    x: NDArray[np.float64]
    """Of sgn(x - x')."""
    y: NDArray[np.float64]
    xy: NDArray[np.float64]
    """Of the product of both."""


def conditional_information(
    x: ArrayLike,
    y: ArrayLike,
    axes: Mapping[str, ArrayLike],
    *,
    level: float = 0.95,
) -> Information:
    """K = min over |S| <= 2 of I(V_x; V_y | U_S) / H(V_y | U_S), by exact counting.

    Over ordered pairs of different configurations, V_x = sgn(x - x'), V_y = sgn(y - y'), and U_S
    are the values of the hyper-parameters S in both; a configuration weighs the same however
    many repeats it has, and half of a tie counts for either sign. Counted frequencies make every
    I_S at least 0 and, with few pairs in a cell of U_S, too large. Sets S that decide the order
    of y are left out of the minimum.

    `axes` maps each hyper-parameter to its values, one a row; columns have shape [N]. `stderr`
    of K is the jackknife's over configurations: it covers their draw and that of the repeats.
    Costs O(N² Σ_S G_S) operations for G_S distinct values of S. Raises `InputError` as `kendall`
    does, and for axes with too many values to be counted in 1 GiB.
    """
    x, y = finite_columns({"x": x, "y": y})
    found = Configurations.of(axes, len(x))
    count = len(found.axes)
    subsets = [s for size in range(_MOST_GIVEN + 1) for s in combinations(range(count), size)]
    groups = [found.groups(subset) for subset in subsets]
    partners = _partners(x, y, found, groups)
    ratios = [_ratios(code, sums) for code, sums in zip(groups, partners, strict=True)]
    whole = np.array([value for value, _ in ratios])
    left_out = _least(np.stack([without for _, without in ratios]))
    names = [tuple(found.axes[place] for place in subset) for subset in subsets]
    known = np.isfinite(whole)
    least = float(_least(whole[:, None])[0])
    return Information(
        dict(zip(names, map(float, whole), strict=True)),
        Interval.from_jackknife(least, left_out, count=len(x), level=level),
        names[int(np.where(known, whole, math.inf).argmin())] if known.any() else (),
    )


def _least(ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least over sets [sets, …] of those that are defined, nan where there is none."""
    least = np.where(np.isnan(ratios), math.inf, ratios).min(axis=0)
    return np.where(np.isfinite(least), least, math.nan)


def _partners(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    found: Configurations,
    groups: Sequence[NDArray[np.intp]],
) -> list[_Sums]:
    """For each set S, sums over the partners in each group, from each configuration; [C, G_S]."""
    member, ends = _members(groups, len(x))
    order = np.argsort(found.of_row, kind="stable")
    starts = np.flatnonzero(np.diff(found.of_row[order], prepend=-1))
    repeats = np.bincount(found.of_row)
    to_group = member / repeats[:, None]
    sums = [np.zeros_like(member) for _ in range(3)]
    step = max(1, _MAX_BLOCK // max(len(x), 1))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        own = found.of_row[rows]
        # Signs within one configuration are no evidence: they count as ties do.
        differ = own[:, None] != found.of_row[order]
        signs_x = _signs(x[rows], x[order]) * differ
        signs_y = _signs(y[rows], y[order]) * differ
        for total, signs in zip(sums, (signs_x, signs_y, signs_x * signs_y), strict=True):
            by_partner = np.add.reduceat(signs, starts, axis=1, dtype=np.int32)
            np.add.at(total, own, (by_partner @ to_group) / repeats[own, None])
    pairs = member.sum(axis=0) - member
    parts = (np.split(each, ends[:-1], axis=-1) for each in (pairs, *sums))
    return [_Sums(*each) for each in zip(*parts, strict=True)]


def _signs(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.int8]:
    more, less = one[:, None] > other, one[:, None] < other
    return more.view(np.int8) - less.view(np.int8)


def _members(
    groups: Sequence[NDArray[np.intp]], num_rows: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """One where a configuration is in a group, the sets side by side: [C, Σ G_S], and their ends.

    Raises `InputError` where such matrices would not fit.
    """
    sizes = [int(code.max(initial=-1)) + 1 for code in groups]
    count, width, ends = len(groups[0]), sum(sizes), np.cumsum(sizes)
    bytes_needed = 8 * width * (6 * count + 2 * num_rows)
    if bytes_needed > _MAX_BYTES:
        expected = f"at most {_MAX_BYTES / 2**30:.0f} GiB"
        cure = "leave out axes with many values, or round them to a few levels"
        raise InputError("axes", f"{bytes_needed / 2**30:.1f} GiB of counts", expected, cure)
    member = np.zeros((count, width))
    for code, end, size in zip(groups, ends.tolist(), sizes, strict=True):
        member[np.arange(count), end - size + code] = 1
    return member, ends


def _ratios(code: NDArray[np.intp], partners: _Sums) -> tuple[float, NDArray[np.float64]]:
    """I_S / H_S of all configurations, and without each of them, [C].

    A configuration leaves only the cells in its own group's row and column, and the columns hold
    what the rows do, with both signs reversed.
    """
    size = partners.x.shape[1]
    one_hot = (code == np.arange(size)[:, None]).astype(float)
    columns = partners.pairs, partners.x, partners.y, partners.xy
    cells = _Sums(*(one_hot @ each for each in columns))
    whole = _information(cells)
    own = one_hot.T
    both, neither = 1 + own, 1 - own
    changed = _information(
        _Sums(
            cells.pairs[code] - both * partners.pairs,
            cells.x[code] - neither * partners.x,
            cells.y[code] - neither * partners.y,
            cells.xy[code] - both * partners.xy,
        )
    )
    lost = ((2 - own) * (whole[:, code] - changed)).sum(axis=-1)
    total = whole.sum(axis=(1, 2))
    count = len(code)
    left_out = _ratio(total[:, None] - lost, (count - 1) * (count - 2))
    return float(_ratio(total[:, None], count * (count - 1))[0]), left_out


def _ratio(totals: NDArray[np.float64], num_pairs: int) -> NDArray[np.float64]:
    """I / H out of sums [2, …] over `num_pairs`; nan where H is no more than rounding."""
    information, entropy = totals
    known = entropy > 1e3 * np.finfo(np.float64).eps * num_pairs
    return np.where(known, np.maximum(information, 0) / np.where(known, entropy, 1), math.nan)


def _information(cells: _Sums) -> NDArray[np.float64]:
    """Mutual information and entropy of V_y in each cell, in nats, times its pairs; [2, …]."""
    pairs = np.maximum(cells.pairs, 0)
    x, y, xy = (each / np.where(pairs > 0, pairs, 1) for each in (cells.x, cells.y, cells.xy))
    joint = np.stack([1 + a * x + b * y + a * b * xy for a in (1, -1) for b in (1, -1)]) / 4
    entropy_x, entropy_y = (_entropy(np.stack([1 + m, 1 - m]) / 2) for m in (x, y))
    information = entropy_x + entropy_y - _entropy(joint)
    return np.stack([information, entropy_y]) * pairs


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.maximum(shares, 0)
    return -np.asarray(xlogy(shares, shares)).sum(axis=0)
