"""The models of a study as cases of TIC to be trusted or not."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.report.population import clusters, population
from gentheory.study.tables import Tables
from gentheory.trust.indicators import INDICATORS, TIC
from gentheory.trust.record import Source

FACTOR = 2.0

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Cases:
    """The models of a study that say whether TIC can be trusted; N of them."""

    source: Source
    values: dict[str, Column]
    """Each indicator's, shape [N]; nan where a model's is not known."""
    within: NDArray[np.bool_]
    """Whether TIC is within the factor of the measured gap; shape [N]."""
    tic: Column
    gap: Column
    setting: NDArray[np.intp]
    point: NDArray[np.intp] | None
    """Clusters of the bootstrap, shape [N]; None: every model by itself."""

    @classmethod
    def of(cls, tables: Tables) -> "Cases":
        """Raises `InputError` where the study lacks a measure, or models of either kind."""
        models = population(tables)
        main = tables.main or "tic.exact"
        _check_measures(tables, main)
        ranked = models.ranked
        tic, gap = (np.asarray(ranked[name], dtype=float) for name in (main, "gap"))
        noise = np.asarray(ranked["gap_stderr"], dtype=float)
        kept = np.isfinite(tic) & (tic > 0) & (gap > 2 * np.nan_to_num(noise))
        frame, tic, gap = ranked.loc[kept], tic[kept], gap[kept]
        within = np.abs(np.log(tic / gap)) <= math.log(FACTOR)
        if not 0 < within.sum() < len(within):
            raise InputError(
                f"study {tables.name}",
                f"TIC within a factor of {FACTOR:g} of the gap in {within.sum()} of {len(within)}",
                "models of both kinds",
                "choose a study with models in which TIC fails and others in which it does not",
            )
        return cls(
            Source(
                study=tables.name,
                commit=str(tables.provenance.get("commit", "")),
                tic=main,
                models=len(frame),
                left_out=len(models.models) - len(frame),
                settings=len(set(frame["setting"])),
                within=round(float(within.mean()), 4),
            ),
            _values(tables, frame, main),
            within,
            tic,
            gap,
            np.unique(np.asarray(frame["setting"], dtype=str), return_inverse=True)[1],
            clusters(frame),
        )


def _check_measures(tables: Tables, main: str) -> None:
    wanted = {main, *(i.measure for i in INDICATORS)} - {TIC, "baselines.training_loss"}
    missing = sorted(wanted - set(tables.measures["measure"]))
    if missing:
        raise InputError(
            f"study {tables.name}",
            f"no {', '.join(missing)}",
            "every measure of the indicators",
            "name them under [measures] as studies/trust.toml does, and run it anew",
        )


def _values(tables: Tables, frame: pd.DataFrame, main: str) -> dict[str, Column]:
    """Every indicator of every model, as `diagnose` reads it off the same estimates."""
    estimates: dict[str, dict[str, Estimate]] = {
        model: {"baselines.training_loss": Estimate(loss)}
        for model, loss in zip(frame["model"], frame["train_loss"], strict=True)
    }
    columns = (tables.measures[n] for n in ("model", "measure", "value", "status", "stats"))
    for model, name, value, status, stats in zip(*columns, strict=True):
        if model in estimates:
            known = json.loads(stats) if isinstance(stats, str) else {}
            estimates[model][name] = Estimate(value, status=status, stats=known)
    return {
        indicator.name: np.array([indicator.value(main, own)[0] for own in estimates.values()])
        for indicator in INDICATORS
    }


def known(
    cases: Cases, column: Column
) -> tuple[Column, NDArray[np.bool_], NDArray[np.intp] | None]:
    """The entries of the column that are known, with `within` and `point` beside them."""
    kept = np.isfinite(column)
    return column[kept], cases.within[kept], None if cases.point is None else cases.point[kept]
