"""Whether a study's numbers agree with what was claimed: one row a claim, with its interval."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.report.checkpoints import measured, taus
from gentheory.report.population import MIN_MODELS, Population, clusters
from gentheory.report.ranking import Column, Resampling, gap_predictors, interval_columns, resamples
from gentheory.report.resampled import Samples, difference, interval, mean
from gentheory.stats import Interval, mean_interval, rank, weighted
from gentheory.stats.resample import Counts
from gentheory.study.claim import Claim
from gentheory.study.tables import Tables

AGREES, DISAGREES, OPEN, NO_NUMBER = "agrees", "disagrees", "undecided", "no number"

_STATISTICS: Mapping[str, tuple[Callable[..., float], Callable[..., NDArray[np.float64]]]] = {
    "kendall": (rank.kendall, weighted.kendall),
    "spearman": (rank.spearman, weighted.spearman),
    "pearson": (rank.pearson, weighted.pearson),
    "partial_kendall": (rank.partial_kendall, weighted.partial_kendall),
}


def claims(tables: Tables, population: Population, resampling: Resampling) -> pd.DataFrame:
    """One row a claim of the study, in its order.

    `says`, `source`, `why`, `number` (in words, what decides), `expected`, `value` with
    `value.low` and `value.high` (95 % bootstrap over hyper-parameter points, the same in every
    setting), `settings` and `models`, how many it rests on, and `verdict`: "agrees" where the
    whole interval is as expected, "disagrees" where none of it is, else "undecided"; "no number"
    where there is none. Raises `InputError` for a predictor, a target or a column that the tables
    do not have.
    """
    rows: list[dict[str, Any]] = []
    if tables.claims:
        drawn = _Drawn.of(population, resampling)
        rows = [_row(claim, tables, population, drawn, resampling) for claim in tables.claims]
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = [
    *("says", "source", "why", "number", "expected", "value", "value.low", "value.high"),
    *("settings", "models", "verdict"),
]


def _row(
    claim: Claim,
    tables: Tables,
    population: Population,
    drawn: "_Drawn",
    resampling: Resampling,
) -> dict[str, Any]:
    found = _along(claim, tables, population, resampling) if claim.along else _ranked(claim, drawn)
    cells = interval_columns("value", found.interval)
    return {
        "says": claim.says,
        "source": claim.source,
        "why": claim.why,
        "number": number(claim),
        "expected": expected(claim),
        **cells,
        "settings": found.settings,
        "models": found.models,
        "verdict": verdict(cells["value.low"], cells["value.high"], claim),
    }


def number(claim: Claim) -> str:
    """What decides on a claim, in words."""
    names = {"kendall": "Kendall τ", "spearman": "Spearman ρ", "pearson": "Pearson r"}
    statistic = names.get(claim.statistic, "partial Kendall τ given the training loss")
    text = f"{statistic} of {claim.predictor} with {claim.target.replace('_', ' ')}"
    if claim.trend:
        return f"Kendall τ, over settings, of P/n with the {text}"
    if claim.along:
        text += " over each model's own checkpoints"
    text += _chosen(claim.where)
    if claim.against is None:
        return text
    other = claim.against.predictor or "the same"
    return f"{text}, less that of {other}{_chosen(claim.against.where or {})}"


def _chosen(where: Mapping[str, Sequence[Any]]) -> str:
    parts = [f"{key} {' or '.join(map(str, values))}" for key, values in where.items()]
    return f" where {', '.join(parts)}" if parts else ""


def expected(claim: Claim) -> str:
    """The bounds in words."""
    parts = [
        f"{word} {bound:g}".replace("-", "−")
        for word, bound in (("above", claim.above), ("below", claim.below))
        if bound is not None
    ]
    return " and ".join(parts)


def verdict(low: float, high: float, claim: Claim) -> str:
    """What an interval says of a claim."""
    if not np.isfinite([low, high]).all():
        return NO_NUMBER
    above = -np.inf if claim.above is None else claim.above
    below = np.inf if claim.below is None else claim.below
    if low > above and high < below:
        return AGREES
    return DISAGREES if high < above or low > below else OPEN


@dataclass(frozen=True)
class _Found:
    interval: Interval | None
    settings: int
    models: int


@dataclass(frozen=True)
class _Group:
    """The ranked models of a setting, with their multiplicities in the resamples of all."""

    frame: pd.DataFrame
    counts: Counts

    @property
    def ratio(self) -> float:
        """Parameters over training examples."""
        return float((self.frame["num_parameters"] / self.frame["n_train"]).iloc[0])

    def correlation(self, claim: Claim, predictor: str) -> Samples | None:
        """None for fewer than `MIN_MODELS` models, and where it is undefined."""
        x, y = _column(self.frame, predictor), _column(self.frame, claim.target)
        columns = [x, y]
        if claim.statistic == "partial_kendall":
            columns.append(_column(self.frame, "train_loss"))
        kept = np.isfinite(columns).all(axis=0)
        if kept.sum() < MIN_MODELS:
            return None
        one, many = _STATISTICS[claim.statistic]
        columns = [column[kept] for column in columns]
        value = one(*columns)
        samples = many(self.counts[:, kept], *map(weighted.Column.of, columns))
        return (value, samples) if np.isfinite(value) else None


@dataclass(frozen=True)
class _Drawn:
    """The ranked models of all tested settings, and one set of resamples for every claim."""

    ranked: pd.DataFrame
    counts: Counts

    @classmethod
    def of(cls, population: Population, resampling: Resampling) -> "_Drawn":
        ranked = population.ranked
        ranked = ranked.loc[ranked["setting"].isin(population.tested)]
        return cls(ranked, resamples(ranked, resampling))

    def groups(self, where: Mapping[str, Sequence[Any]]) -> list[_Group]:
        """The chosen models of each setting."""
        chosen = _selected(self.ranked, where)
        settings = self.ranked["setting"]
        found: list[_Group] = []
        for setting in dict.fromkeys(settings.loc[chosen]):
            rows = np.flatnonzero(chosen & (settings == setting).to_numpy())
            found.append(_Group(self.ranked.iloc[rows], self.counts[:, rows]))
        return found


def _ranked(claim: Claim, drawn: _Drawn) -> _Found:
    groups = drawn.groups(claim.where)
    found = [(group, group.correlation(claim, claim.predictor)) for group in groups]
    known = [(group, samples) for group, samples in found if samples is not None]
    size = (len(known), sum(len(group.frame) for group, _ in known))
    if claim.trend:
        return _Found(_trend(known), *size)
    own = mean([samples for _, samples in known])
    if claim.against is not None and own is not None:
        where = claim.where if claim.against.where is None else claim.against.where
        name = claim.against.predictor or claim.predictor
        others = [group.correlation(claim, name) for group in drawn.groups(where)]
        other = mean([samples for samples in others if samples is not None])
        own = None if other is None else difference(own, other)
    return _Found(own and interval(own, size[0]), *size)


def _selected(frame: pd.DataFrame, where: Mapping[str, Sequence[Any]]) -> NDArray[np.bool_]:
    chosen = np.ones(len(frame), dtype=bool)
    for name, values in where.items():
        if name not in frame.columns:
            raise InputError(
                "report.claims.where",
                repr(name),
                f"a column of the models, such as {', '.join(map(str, frame.columns[:12]))}",
                "correct it",
            )
        chosen &= frame[name].isin(values).to_numpy()
    return chosen


def _column(frame: pd.DataFrame, name: str) -> Column:
    """A measure, a target or a trivial baseline."""
    if name in ("gap", "test_loss", "train_loss"):
        return np.asarray(frame[name], dtype=float)
    known = gap_predictors(frame, (name,) if name in frame.columns else ())
    if name not in known:
        raise InputError(
            "report.claims", repr(name), "a measure of the study or a baseline", "correct it"
        )
    return known[name]


def _trend(known: list[tuple[_Group, Samples]]) -> Interval | None:
    """Kendall's tau of P/n with the correlation over settings."""
    if len(known) < 3:
        return None
    ratio = np.array([group.ratio for group, _ in known])
    values = np.array([samples[0] for _, samples in known])
    resampled = np.array([samples[1] for _, samples in known]).T
    trends = [rank.kendall(ratio, row) for row in resampled if np.isfinite(row).all()]
    return interval((rank.kendall(ratio, values), np.array(trends)), len(known))


def _along(claim: Claim, tables: Tables, population: Population, resampling: Resampling) -> _Found:
    """The mean over models of tau with the gap over the model's own checkpoints."""
    if tables.trajectory.empty:
        return _Found(None, 0, 0)
    models = population.models
    models = models.loc[models["setting"].isin(population.tested).to_numpy()]
    models = models.loc[_selected(models, claim.where)]
    names = [claim.predictor, *filter(None, [claim.against and claim.against.predictor])]
    taus = [_own_taus(name, tables, models) for name in names]
    values = taus[0] if len(taus) == 1 else taus[0] - taus[1]
    known = models.loc[np.isfinite(values)]
    if len(known) < MIN_MODELS:
        return _Found(None, 0, len(known))
    drawn: Resampling = {**resampling, "clusters": clusters(known)}
    interval = mean_interval(values[np.isfinite(values)], **drawn)
    return _Found(interval, known["setting"].nunique(), len(known))


def _own_taus(name: str, tables: Tables, models: pd.DataFrame) -> Column:
    """Tau of a predictor with the gap over each model's checkpoints, nan where undefined; [M]."""
    frame = tables.trajectory.loc[tables.trajectory["model"].isin(models["model"])]
    known = name in set(tables.measures_along["measure"])
    frame = measured(tables, frame, [name] if known else [])
    return taus(frame, _column(frame, name)).reindex(models["model"]).to_numpy()
