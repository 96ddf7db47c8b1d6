"""The hyper-parameters that a study varies, as axes of a grid, and all that may rank its gaps."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gentheory.report.population import MIN_MODELS, Population
from gentheory.report.ranking import GAP_BASELINES, Column, gap_predictors, kind
from gentheory.stats.configurations import Configurations
from gentheory.study.settings import Settings

RANDOM = "random"
ORACLE = "oracle"
REFERENCES = (RANDOM, ORACLE)
"""What no measure should stay behind, and what none can be much ahead of."""

TARGETS = {"gap": "gap in loss", "error_gap": "gap in error"}
"""Test minus training loss, and test minus training error: the columns of a design's models."""

_LEFT_OUT = ("seed", "keep_trajectory", "n_train")


@dataclass(frozen=True)
class Design:
    """The ranked models of the tested settings as a grid of hyper-parameters with repeats."""

    models: pd.DataFrame
    """With the columns of `TARGETS`, and `error_gap_stderr`."""
    axes: dict[str, NDArray[np.str_]]
    """Each hyper-parameter that varies, a label a model; models alike in all are repeats."""
    lines: tuple[str, ...]
    """The axes along which there are models that differ in nothing else."""
    num_test: int | None
    """Test examples behind each gap, where that is known and the same for all."""
    measures: tuple[str, ...]
    sizes_vary: bool

    @property
    def targets(self) -> list[str]:
        """Those of `TARGETS` that differ between the models."""
        return [name for name in TARGETS if np.ptp(np.asarray(self.models[name], dtype=float)) > 0]

    @property
    def configuration(self) -> NDArray[np.intp]:
        """Each model's configuration, numbered from 0; shape [N]."""
        return Configurations.of(self.axes, len(self.models)).of_row

    def predictors(self, target: str, *, seed: int) -> dict[str, Column]:
        """The trivial baselines, a random and an oracle measure of this target, and the measures.

        The oracle is the target with normal noise as large as its sampling error on the test
        examples added: no better order of the expected gaps can be asked for.
        """
        found = gap_predictors(self.models, self.measures, counts=self.sizes_vary)
        stream = np.random.default_rng([seed, 1])  # not the bootstrap's
        drawn, noise = stream.normal(size=(2, len(self.models)))
        gap, stderr = (
            np.asarray(self.models[name], dtype=float) for name in (target, f"{target}_stderr")
        )
        baselines = {name: found.pop(name) for name in GAP_BASELINES if name in found}
        return {**baselines, RANDOM: drawn, ORACLE: gap + stderr * noise, **found}


def design(population: Population) -> Design | None:
    """The grid of a study; None unless models differ along two axes or more, one at a time.

    Axes are the settings of the training and the options of the architectures that take two
    values or more, and "architecture" where options do not tell architectures apart. None too
    where settings are drawn at random, and for fewer than `MIN_MODELS` configurations.
    """
    ranked = population.ranked
    models = ranked.loc[ranked["setting"].isin(population.tested)]
    if "draw" in models and models["draw"].notna().any():
        return None
    axes = {name: column for name, column in labels(models).items() if len(set(column)) > 1}
    if len(axes) < 2:
        return None
    found = Configurations.of(axes, len(models))
    lines = tuple(name for place, name in enumerate(axes) if any(True for _ in found.lines(place)))
    if len(lines) < 2 or len(found.codes) < MIN_MODELS:
        return None
    num_test = _num_test(models)
    return Design(
        models.assign(**_errors(models, num_test)),
        axes,
        lines,
        num_test,
        population.measures,
        population.sizes_vary,
    )


def kind_of(predictor: str) -> str:
    """What a predictor is: as `kind`, and "baseline" for the random and the oracle measure."""
    return "baseline" if predictor in REFERENCES else kind(predictor)


def labels(models: pd.DataFrame) -> dict[str, NDArray[np.str_]]:
    """The settings and the options of the architectures as texts, all but the seed; [N] each."""
    names = [name for name in Settings.model_fields if name not in _LEFT_OUT and name in models]
    names += ["data"] if "data" in models else []
    columns = {name: models[name] for name in ("n_train", *names)}
    texts = {name: np.array([str(value) for value in column]) for name, column in columns.items()}
    return _architectures(models) | texts


def _architectures(models: pd.DataFrame) -> dict[str, NDArray[np.str_]]:
    """The options of the architectures, "–" where one has no such option."""
    names = np.array([str(name) for name in models["architecture"]])
    if "options" not in models:
        return {"architecture": names}
    options = [json.loads(str(text)) for text in models["options"]]
    keys: Sequence[str] = list(dict.fromkeys(key for own in options for key in own))
    found = {key: np.array([str(own.get(key, "–")) for own in options]) for key in keys}
    distinct = {tuple(row) for row in zip(*found.values(), strict=True)} if keys else {()}
    return found if len(distinct) == len(set(names)) else {**found, "architecture": names}


def _num_test(models: pd.DataFrame) -> int | None:
    counts = set(models.loc[models["n_test"] > 0, "n_test"]) if "n_test" in models else set[int]()
    return int(counts.pop()) if len(counts) == 1 else None


def _errors(models: pd.DataFrame, num_test: int | None) -> dict[str, Column]:
    """The gap in error, and the sampling error that its test examples give it."""
    train, test = (
        np.asarray(models[f"{part}_accuracy"], dtype=float) for part in ("train", "test")
    )
    stderr = np.sqrt(test * (1 - test) / (num_test or np.nan))
    return {"error_gap": train - test, "error_gap_stderr": stderr}
