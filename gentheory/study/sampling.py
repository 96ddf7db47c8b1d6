"""The values that `[draws]` stand for."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from scipy.stats import qmc

from gentheory.seeds import generator, seed_of
from gentheory.study.draws import Draws, Range


def drawn(draws: Draws, seed: int) -> list[dict[str, Any]]:
    """One value of each axis for every draw, in the order of the draws."""
    axes = draws.axes()
    if not axes:
        return [{} for _ in range(draws.count)]
    quantiles = _quantiles(draws, tuple(axes), seed)
    columns = [
        [_at(values, quantile) for quantile in column.tolist()]
        for values, column in zip(axes.values(), quantiles, strict=True)
    ]
    return [dict(zip(axes, row, strict=True)) for row in zip(*columns, strict=True)]


def _at(values: Range | Sequence[Any], quantile: float) -> Any:
    if isinstance(values, Range):
        return values.at(quantile)
    return values[int(len(values) * quantile)]


def _quantiles(
    draws: Draws, names: tuple[str, ...], seed: int
) -> Float64[np.ndarray, "axes draws"]:
    """Numbers in [0, 1). At random an axis has a stream of its own, so that adding one keeps it."""
    if draws.method == "random":
        streams = (generator(seed, "draws", name) for name in names)
        columns = [torch.rand(draws.count, generator=s, dtype=torch.float64) for s in streams]
        return torch.stack(columns).numpy()
    stream = np.random.default_rng(seed_of(seed, "draws", draws.method))
    if draws.method == "halton":
        return qmc.Halton(len(names), scramble=True, rng=stream).random(draws.count).T
    # The whole power of two: scipy warns of any other number, and the first ones are the same.
    points = qmc.Sobol(len(names), scramble=True, rng=stream)
    return points.random_base2(math.ceil(math.log2(draws.count)))[: draws.count].T
