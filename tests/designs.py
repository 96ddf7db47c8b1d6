"""Grids of hyper-parameters with repeats, and the pairs in them counted one by one."""

from itertools import permutations, product

import numpy as np


def grid(*levels, repeats=1, seed=0):
    """Columns of a grid's axes by name, rows in random order, and the repeat of each row."""
    cells = np.array([cell for cell in product(*map(range, levels)) for _ in range(repeats)])
    number = np.tile(np.arange(repeats), len(cells) // repeats)
    order = np.random.default_rng(seed).permutation(len(cells))
    axes = {f"axis {h}": cells[order, h] for h in range(len(levels))}
    return axes, number[order]


def uneven(seed=0, num_rows=40):
    """A random part of a 3 x 2 x 4 grid with unequal repeats, and two tied columns."""
    generator = np.random.default_rng(seed)
    axes = {
        "depth": generator.integers(0, 3, num_rows),
        "optimizer": np.array(["adam", "sgd"])[generator.integers(0, 2, num_rows)],
        "rate": 10.0 ** generator.integers(-4, 0, num_rows),
    }
    x = generator.integers(0, 4, num_rows)
    return x.astype(float), (x + generator.integers(0, 5, num_rows)).astype(float), axes


def cells(axes):
    """Rows of each configuration, by its values."""
    found = {}
    for row, key in enumerate(zip(*axes.values(), strict=True)):
        found.setdefault(key, []).append(row)
    return found


def environments(axes):
    """(axis, configuration, other) for ordered pairs which differ in that axis alone."""
    for one, other in permutations(cells(axes), 2):
        differing = [name for name, a, b in zip(axes, one, other, strict=True) if a != b]
        if len(differing) == 1:
            yield differing[0], one, other
