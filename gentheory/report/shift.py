"""Accuracy on an environment kept out of training, against that on the training environments.

What is compared is equal in distribution: models of adaptive and of other optimizers in the same
bin of in-distribution (ID) accuracy, since the better one there is mostly better elsewhere too
(Miller et al. 2021; Naganuma et al. 2023). A model is chosen by its ID accuracy alone. ID and
shifted accuracy come from different test images. Intervals are those of a bootstrap that draws
the numbered random settings, the same ones for every optimizer, or else hyper-parameter points.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.report.population import MIN_MODELS, Population
from gentheory.report.ranking import Resampling, interval_columns
from gentheory.stats import Interval
from gentheory.stats.columns import cluster_indices
from gentheory.stats.resample import Counts, draw_counts

ADAPTIVE = ("adam", "adamw", "rmsprop")
"""Optimizers that divide by a running size of the gradient, coordinate by coordinate."""
BIN = 0.02
"""Width of a bin of in-distribution accuracy: its models differ by at most ±1 % from its middle."""

Row = dict[str, Any]

_LEVEL = 0.95
_Column = NDArray[np.float64]
_Samples = NDArray[np.float64]
"""A statistic's value, then its values on the resamples, shape [1 + K]."""


@dataclass(frozen=True)
class Shift:
    """The tables of a study whose data have an environment kept out of training."""

    models: pd.DataFrame
    """The ranked models with `data`, `trained_by`, `id` and `shifted`, accuracies in 0 .. 1."""
    matched: pd.DataFrame
    """Adaptive less other optimizers in each bin of ID accuracy that has both. `data`, `low` and
    `high` of the bin (nan: all bins together), `adaptive` and `others`, how many models, `id`,
    the difference of their mean ID accuracies, and `difference`, that of their mean shifted
    accuracies, with `.low` and `.high`. All bins together are their mean with weights
    n_a n_o / (n_a + n_o), which one common difference is estimated best with; `adjusted`, for
    all bins, is that less what the difference in ID accuracy left in the bins explains, by the
    slope of shifted over ID accuracy among models of one kind in one bin."""
    curve: pd.DataFrame
    """Mean shifted accuracy of each optimizer's models in each bin: `data`, `trained_by`, `count`,
    `id`, `shifted` with `.low` and `.high`."""
    returns: pd.DataFrame
    """How shifted accuracy grows with ID accuracy: `data`, `trained_by`, `count`, `knot`, the
    median ID accuracy, `below` and `above`, the slopes on both sides of it in the least-squares
    fit of a broken line, `bend`, the second less the first, and `type`: "increasing" or
    "diminishing" where the interval of the bend is above or below 0, else "linear"."""
    chosen: pd.DataFrame
    """The model of best ID accuracy of each optimizer, the first of equals: `data`, `trained_by`,
    `count`, its `id` and its `shifted` with `.low` and `.high`."""


def shift(population: Population, resampling: Resampling) -> Shift | None:
    """The comparison under shift; None where no ranked model has a `shifted_accuracy`."""
    if "shifted_accuracy" not in population.models:
        return None
    ranked = population.ranked
    known = np.isfinite(np.asarray(ranked["shifted_accuracy"], dtype=float))
    if not known.any():
        return None
    ranked = ranked.loc[known]
    models = pd.DataFrame(
        {
            "model": ranked["model"],
            "data": ranked["data"],
            "trained_by": _optimizers(ranked),
            "id": ranked["test_accuracy"].astype(float),
            "shifted": ranked["shifted_accuracy"].astype(float),
            "cluster": _clusters(ranked),
        }
    ).reset_index(drop=True)
    fields = list(_fields(models, resampling))
    return Shift(
        models.drop(columns="cluster"),
        pd.DataFrame([row for f in fields for row in _matched(f)], columns=_MATCHED),
        pd.DataFrame([row for f in fields for row in _curve(f)], columns=_CURVE),
        pd.DataFrame([row for f in fields for row in _returns(f)], columns=_RETURNS),
        pd.DataFrame([row for f in fields for row in _chosen(f)], columns=_CHOSEN),
    )


_MATCHED = [
    *("data", "low", "high", "adaptive", "others", "id"),
    *(f"{name}{end}" for name in ("difference", "adjusted") for end in ("", ".low", ".high")),
]
_CURVE = ["data", "trained_by", "count", "id", "shifted", "shifted.low", "shifted.high"]
_RETURNS = [
    *("data", "trained_by", "count", "knot", "type"),
    *(f"{name}{end}" for name in ("below", "above", "bend") for end in ("", ".low", ".high")),
]
_CHOSEN = _CURVE


@dataclass(frozen=True)
class _Field:
    """The models of one data set, with their multiplicities: first 1 each, then the resamples."""

    data: str
    trained_by: NDArray[np.str_]
    id: _Column
    shifted: _Column
    counts: Counts

    def of(self, optimizer: str) -> "_Field":
        """The models of one optimizer."""
        own = self.trained_by == optimizer
        columns = (self.trained_by[own], self.id[own], self.shifted[own], self.counts[:, own])
        return _Field(self.data, *columns)

    def optimizers(self) -> Iterator[tuple[str, "_Field"]]:
        """In the order of the study."""
        for optimizer in dict.fromkeys(self.trained_by.tolist()):
            yield optimizer, self.of(optimizer)

    def bins(self) -> NDArray[np.intp]:
        """The bin of each model: bin b holds the ID accuracies from b · BIN up to the next."""
        # A share of whole examples may fall short of an edge by rounding.
        return np.floor(self.id / BIN + 1e-9).astype(np.intp)


def _fields(models: pd.DataFrame, resampling: Resampling) -> Iterator[_Field]:
    labels = cluster_indices(models["cluster"], len(models))
    draws = draw_counts(labels, resampling["num_resamples"], seed=resampling["seed"])
    counts = np.concatenate([np.ones((1, len(models))), *draws])
    for data in dict.fromkeys(models["data"]):
        rows = np.flatnonzero(models["data"] == data)
        own = models.iloc[rows]
        ids, shifted = (np.asarray(own[name], dtype=float) for name in ("id", "shifted"))
        trained_by = np.asarray(own["trained_by"], dtype=str)
        yield _Field(str(data), trained_by, ids, shifted, counts[:, rows])


def _optimizers(models: pd.DataFrame) -> list[str]:
    pairs = zip(models["optimizer"], models["nesterov"], strict=True)
    return [f"{name}, nesterov" if nesterov else str(name) for name, nesterov in pairs]


def _clusters(models: pd.DataFrame) -> list[str]:
    """The random setting by its number or, in a plain grid, the hyper-parameter point."""
    pairs = zip(models["draw"], models["point"], strict=True)
    return [f"point {point}" if pd.isna(draw) else f"draw {draw}" for draw, point in pairs]


def _matched(field: _Field) -> Iterator[Row]:
    adaptive = np.isin(field.trained_by, ADAPTIVE)
    bins = field.bins()
    both = np.array(sorted(set(bins[adaptive]) & set(bins[~adaptive])))
    if not len(both):
        return
    place = (bins[:, None] == both).astype(float)  # [N, bins]
    kinds = [place * kind[:, None] for kind in (adaptive, ~adaptive)]
    sizes = [field.counts @ kind for kind in kinds]  # [1 + K, bins]
    shifted, within = (
        _means(field.counts, values, kinds[0]) - _means(field.counts, values, kinds[1])
        for values in (field.shifted, field.id)
    )
    weights = sizes[0] * sizes[1] / np.maximum(sizes[0] + sizes[1], 1)
    whole, ids = (_weighted(values, weights) for values in (shifted, within))
    one, other = (int(size[0].sum()) for size in sizes)
    yield {
        **{"data": field.data, "low": np.nan, "high": np.nan, "id": float(ids[0])},
        **{"adaptive": one, "others": other},
        **interval_columns("difference", _interval(whole, min(one, other))),
        **interval_columns(
            "adjusted", _interval(whole - _slope(field, kinds) * ids, min(one, other))
        ),
    }
    for j, b in enumerate(both):
        one, other = (int(size[0, j]) for size in sizes)
        yield {
            **{"data": field.data, "low": b * BIN, "high": (b + 1) * BIN},
            **{"adaptive": one, "others": other, "id": float(within[0, j])},
            **interval_columns("difference", _interval(shifted[:, j], min(one, other))),
            **interval_columns("adjusted", None),
        }


def _means(counts: Counts, values: _Column, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean value of each cell's models in each resample, [1 + K, cells]; nan where none is."""
    with np.errstate(invalid="ignore"):
        return ((counts * values) @ cells) / (counts @ cells)


def _weighted(values: NDArray[np.float64], weights: NDArray[np.float64]) -> _Samples:
    with np.errstate(invalid="ignore"):
        return (weights * np.nan_to_num(values)).sum(1) / weights.sum(1)


def _slope(field: _Field, kinds: list[NDArray[np.float64]]) -> _Samples:
    """The one slope of shifted over ID accuracy within all bins and kinds, least squares."""
    cells, counts = np.concatenate(kinds, axis=1), field.counts
    sizes = counts @ cells
    x, y = (np.nan_to_num(_means(counts, v, cells)) for v in (field.id, field.shifted))
    products = [
        ((counts * values) @ cells - sizes * x * means).sum(1)
        for values, means in ((field.id * field.shifted, y), (field.id**2, x))
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        return products[0] / products[1]


def _curve(field: _Field) -> Iterator[Row]:
    for optimizer, own in field.optimizers():
        bins = own.bins()
        for b in np.unique(bins):
            inside = bins == b
            yield {
                "data": field.data,
                "trained_by": optimizer,
                "count": int(inside.sum()),
                "id": float(own.id[inside].mean()),
                **interval_columns("shifted", _mean(own, inside)),
            }


def _mean(own: _Field, inside: NDArray[np.bool_]) -> Interval:
    counts = own.counts[:, inside]
    with np.errstate(invalid="ignore"):
        return _interval((counts @ own.shifted[inside]) / counts.sum(1), int(inside.sum()))


def _returns(field: _Field) -> Iterator[Row]:
    for optimizer, own in field.optimizers():
        knot = float(np.median(own.id))
        if len(own.id) < MIN_MODELS or own.id.min() == knot or own.id.max() == knot:
            continue
        below, bend = _broken_line(own, knot)
        slopes = {"below": below, "above": below + bend, "bend": bend}
        found = {name: _interval(samples, len(own.id)) for name, samples in slopes.items()}
        columns = [interval_columns(name, interval) for name, interval in found.items()]
        yield {
            "data": field.data,
            "trained_by": optimizer,
            "count": len(own.id),
            "knot": knot,
            "type": _type(found["bend"]),
            **{name: value for part in columns for name, value in part.items()},
        }


def _broken_line(own: _Field, knot: float) -> tuple[_Samples, _Samples]:
    """Slope below the knot and its change there, by least squares on each resample."""
    x = own.id - knot
    design = np.stack([np.ones_like(x), x, np.maximum(x, 0)], axis=1)
    gram = np.einsum("kn,ni,nj->kij", own.counts, design, design)
    right = np.einsum("kn,ni,n->ki", own.counts, design, own.shifted)
    found = (np.linalg.pinv(gram, hermitian=True) @ right[..., None])[..., 0]
    return found[:, 1], found[:, 2]


def _type(bend: Interval) -> str:
    if bend.low > 0:
        return "increasing"
    return "diminishing" if bend.high < 0 else "linear"


def _chosen(field: _Field) -> Iterator[Row]:
    for optimizer, own in field.optimizers():
        order = np.argsort(-own.id, kind="stable")
        there = own.counts[:, order] > 0
        best = own.shifted[order[there.argmax(axis=1)]]
        samples = np.where(there.any(axis=1), best, np.nan)
        yield {
            "data": field.data,
            "trained_by": optimizer,
            "count": len(own.id),
            "id": float(own.id[order[0]]),
            **interval_columns("shifted", _interval(samples, len(own.id))),
        }


def _interval(samples: _Samples, count: int) -> Interval:
    """Without bounds where there are too few models for a bootstrap to know their spread."""
    if count < MIN_MODELS:
        return Interval(float(samples[0]), np.nan, np.nan, np.nan, count, _LEVEL)
    return Interval.from_resamples(float(samples[0]), samples[1:], count=count, level=_LEVEL)
