"""What ranks the gap over all hyper-parameters together, with what chance and errors do to it."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.report.axes import adjusted
from gentheory.report.design import Design, kind_of
from gentheory.report.ranking import GAP_BASELINES, Column, Pool, Resampling
from gentheory.stats import Interval, disattenuated_kendall, disattenuated_pearson, reliability

STATISTICS = ("kendall", "spearman", "pearson", "partial_kendall", "lead")


def pooled(found: Design | None, resampling: Resampling) -> pd.DataFrame:
    """Correlations of the configurations' means with the gap; empty without a design.

    The repeats of a configuration (its seeds) are averaged, measure and gap alike over the
    models for which the measure has a number, and the 95 % bootstrap draws configurations. One
    row a `target` (of `TARGETS`) and predictor: `kind`, `count` of configurations, `note`, and
    the columns of `correlations` for kendall, spearman, pearson, partial_kendall (given the
    training loss) and `lead` over the best of the trivial baselines, named in `rival`; `p` of
    tau = 0, after Holm for all measures of the target; `reliability`, the share of the
    measure's variance that is not its own `stderr`'s, and `true_kendall` and `true_pearson`,
    corrected for it. The gap's own error is left in: all models share the test examples, so it
    is hardly noise between them.
    """
    rows: list[dict[str, Any]] = []
    taus: list[Interval | None] = []
    if found is None:
        return pd.DataFrame(columns=[*_COLUMNS, "p"])
    for target in found.targets:
        predictors = found.predictors(target, seed=resampling["seed"])
        pools: dict[bytes, Pool] = {}
        for name, column in predictors.items():
            kept = np.isfinite(column)
            key = kept.tobytes()
            if key not in pools:
                pools[key] = _pool(found, predictors, target, kept, resampling)
            pool = pools[key]
            row = {"target": target, "predictor": name, "kind": kind_of(name)}
            rows.append({**row, **pool.scores(name, _rivals(name, predictors))})
            rows[-1] |= _corrected(found, pool, name, kept, rows[-1])
            taus.append(pool.tau(name))
    table = pd.DataFrame(rows, columns=_COLUMNS)
    return table.assign(p=adjusted(table, taus, null=0.0))


def _pool(
    found: Design,
    predictors: dict[str, Column],
    target: str,
    kept: NDArray[np.bool_],
    resampling: Resampling,
) -> Pool:
    """Means over the repeats that are kept, a row a configuration."""
    labels = found.configuration[kept]
    columns = {name: found.models[name] for name in (target, "train_loss")} | predictors
    means = {
        name: _mean(labels, np.asarray(column, dtype=float)[kept])
        for name, column in columns.items()
    }
    frame = pd.DataFrame({name: means[name] for name in (target, "train_loss")})
    frame = frame.assign(point=np.arange(len(frame)))
    return Pool(frame, {name: means[name] for name in predictors}, target, resampling)


def _corrected(
    found: Design, pool: Pool, name: str, kept: NDArray[np.bool_], row: dict[str, Any]
) -> dict[str, float]:
    """The correlations without the measure's own errors; nan where it states none."""
    unknown = dict.fromkeys(map(str, _CORRECTED), np.nan)
    if row["note"] or f"{name}.stderr" not in found.models:
        return unknown
    labels = found.configuration[kept]
    variance = np.asarray(found.models[f"{name}.stderr"], dtype=float)[kept] ** 2
    stderr = np.sqrt(_mean(labels, variance) / _repeats(labels))
    if not np.isfinite(stderr).all() or not stderr.any():
        return unknown
    x, y = pool.pair(name)
    none = np.zeros_like(y)
    found_values = (
        reliability(x, stderr),
        disattenuated_kendall(x, y, stderr, none),
        disattenuated_pearson(x, y, stderr, none),
    )
    return dict(zip(_CORRECTED, found_values, strict=True))


def _rivals(name: str, predictors: dict[str, Column]) -> tuple[str, ...]:
    if name in GAP_BASELINES:
        return ()
    return tuple(rival for rival in GAP_BASELINES if rival in predictors)


def _repeats(labels: NDArray[np.intp]) -> Column:
    counts = np.bincount(labels)
    return counts[counts > 0].astype(float)


def _mean(labels: NDArray[np.intp], column: Column) -> Column:
    """Of each label that is there, in rising order."""
    there = np.bincount(labels) > 0
    return np.bincount(labels, weights=column)[there] / _repeats(labels)


_CORRECTED = ("reliability", "true_kendall", "true_pearson")
_COLUMNS = [
    *("target", "predictor", "kind", "count", "note", "rival"),
    *(f"{name}{end}" for name in STATISTICS for end in ("", ".low", ".high")),
    *_CORRECTED,
]
