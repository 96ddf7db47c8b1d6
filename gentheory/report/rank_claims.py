"""Claims that something ranks the gap, or another target, so well."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.errors import InputError
from gentheory.report.checkpoints import measured, taus
from gentheory.report.population import MIN_MODELS, Population, clusters
from gentheory.report.ranking import Column, Resampling, gap_predictors, resamples
from gentheory.report.resampled import Samples, difference, interval, mean
from gentheory.report.verdicts import Found, in_words, selected
from gentheory.stats import Interval, mean_interval, rank, weighted
from gentheory.stats.resample import Counts
from gentheory.study.claim import Claim
from gentheory.study.tables import Tables

_STATISTICS: Mapping[str, tuple[Callable[..., float], Callable[..., NDArray[np.float64]]]] = {
    "kendall": (rank.kendall, weighted.kendall),
    "spearman": (rank.spearman, weighted.spearman),
    "pearson": (rank.pearson, weighted.pearson),
    "partial_kendall": (rank.partial_kendall, weighted.partial_kendall),
}


def decide(
    claim: Claim, tables: Tables, population: Population, drawn: "Drawn", resampling: Resampling
) -> Found:
    """The number with its 95 % bootstrap over hyper-parameter points.

    Raises `InputError` for a predictor, a target or a column that the tables do not have.
    """
    return _along(claim, tables, population, resampling) if claim.along else _ranked(claim, drawn)


def number(claim: Claim) -> str:
    """What decides on a claim, in words."""
    names = {"kendall": "Kendall τ", "spearman": "Spearman ρ", "pearson": "Pearson r"}
    statistic = names.get(claim.statistic, "partial Kendall τ given the training loss")
    text = f"{statistic} of {claim.predictor} with {claim.target.replace('_', ' ')}"
    if claim.trend:
        return f"Kendall τ, over settings, of P/n with the {text}"
    if claim.along:
        text += " over each model's own checkpoints"
    text += in_words(claim.where)
    if claim.against is None:
        return text
    other = claim.against.predictor or "the same"
    return f"{text}, less that of {other}{in_words(claim.against.where or {})}"


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
class Drawn:
    """The ranked models of all tested settings, and one set of resamples for every claim."""

    ranked: pd.DataFrame
    counts: Counts

    @classmethod
    def of(cls, population: Population, resampling: Resampling) -> "Drawn":
        ranked = population.ranked
        ranked = ranked.loc[ranked["setting"].isin(population.tested)]
        return cls(ranked, resamples(ranked, resampling))

    def groups(self, where: Mapping[str, Sequence[Any]]) -> list[_Group]:
        """The chosen models of each setting."""
        chosen = selected(self.ranked, where)
        settings = self.ranked["setting"]
        found: list[_Group] = []
        for setting in dict.fromkeys(settings.loc[chosen]):
            rows = np.flatnonzero(chosen & (settings == setting).to_numpy())
            found.append(_Group(self.ranked.iloc[rows], self.counts[:, rows]))
        return found


def _ranked(claim: Claim, drawn: Drawn) -> Found:
    groups = drawn.groups(claim.where)
    found = [(group, group.correlation(claim, claim.predictor)) for group in groups]
    known = [(group, samples) for group, samples in found if samples is not None]
    size = (len(known), sum(len(group.frame) for group, _ in known))
    if claim.trend:
        return Found(_trend(known), *size)
    own = mean([samples for _, samples in known])
    if claim.against is not None and own is not None:
        where = claim.where if claim.against.where is None else claim.against.where
        name = claim.against.predictor or claim.predictor
        others = [group.correlation(claim, name) for group in drawn.groups(where)]
        other = mean([samples for samples in others if samples is not None])
        own = None if other is None else difference(own, other)
    return Found(own and interval(own, size[0]), *size)


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


def _along(claim: Claim, tables: Tables, population: Population, resampling: Resampling) -> Found:
    """The mean over models of tau with the gap over the model's own checkpoints."""
    if tables.trajectory.empty:
        return Found(None, 0, 0)
    models = population.models
    models = models.loc[models["setting"].isin(population.tested).to_numpy()]
    models = models.loc[selected(models, claim.where)]
    names = [claim.predictor, *filter(None, [claim.against and claim.against.predictor])]
    taus = [_own_taus(name, tables, models) for name in names]
    values = taus[0] if len(taus) == 1 else taus[0] - taus[1]
    known = models.loc[np.isfinite(values)]
    if len(known) < MIN_MODELS:
        return Found(None, 0, len(known))
    drawn: Resampling = {**resampling, "clusters": clusters(known)}
    interval = mean_interval(values[np.isfinite(values)], **drawn)
    return Found(interval, known["setting"].nunique(), len(known))


def _own_taus(name: str, tables: Tables, models: pd.DataFrame) -> Column:
    """Tau of a predictor with the gap over each model's checkpoints, nan where undefined; [M]."""
    frame = tables.trajectory.loc[tables.trajectory["model"].isin(models["model"])]
    known = name in set(tables.measures_along["measure"])
    frame = measured(tables, frame, [name] if known else [])
    return taus(frame, _column(frame, name)).reindex(models["model"]).to_numpy()
