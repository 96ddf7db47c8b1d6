"""Recorded criteria are decided on as if they had been reported in a study that minimizes."""

import math

import numpy as np
import optuna
import pytest
from optuna.pruners import (
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from played import DIRECTIONS, Play, curves, observe, observe_where_wanted, reported, study

from gentheory.errors import InputError
from gentheory.optuna import TICPruner
from gentheory.optuna.channel import record
from gentheory.optuna.pruner import decide
from gentheory.pruning.observation import Observation

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

BASES = {
    "median": lambda: MedianPruner(3, 2),
    "median in intervals": lambda: MedianPruner(3, 2, 4, n_min_trials=2),
    "percentile": lambda: PercentilePruner(25.0, 3),
    "halving": lambda: SuccessiveHalvingPruner(1, 3),
    "halving auto": lambda: SuccessiveHalvingPruner(),
    "halving later": lambda: SuccessiveHalvingPruner(1, 2, 1, bootstrap_count=2),
    "hyperband": lambda: HyperbandPruner(1, 27, 3),
    "hyperband auto": lambda: HyperbandPruner(reduction_factor=2),
    "wilcoxon": lambda: WilcoxonPruner(),
    "patient": lambda: PatientPruner(None, 2),
    "patient median": lambda: PatientPruner(MedianPruner(3), 2, 0.01),
    "patient hyperband": lambda: PatientPruner(HyperbandPruner(1, 27, 3), 1),
    "threshold": lambda: ThresholdPruner(0.15, 1.2, n_warmup_steps=3, interval_steps=4),
}
VALUES = curves(40)


@pytest.fixture(scope="module")
def native():
    """At which step which trial is pruned by Optuna itself; played once for each base."""
    known = {}

    def pruned_at(base):
        if base not in known:
            known[base] = Play(study(BASES[base]()), VALUES, reported).pruned_at
        return known[base]

    return pruned_at


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("base", BASES)
def test_decisions_are_those_of_reports_in_a_minimizing_study(native, base, direction):
    """Trap: halving and threshold go by the direction, and several objectives have none."""
    played = Play(study(TICPruner(BASES[base]()), DIRECTIONS[direction]), VALUES)
    assert played.pruned_at == native(base)
    assert 0 < len(native(base)) < len(VALUES)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("base", ["halving", "halving auto", "hyperband", "hyperband auto"])
def test_evaluating_at_rungs_only_changes_no_decision(native, base, direction):
    calls = []

    def counted(trial, step, value):
        calls.append(step)
        return observe(trial, step, value)

    def where_wanted(trial, step, value):
        wanted = trial.study.pruner.wants(trial.study, trial, step)
        return wanted and counted(trial, step, value)

    everywhere = Play(study(TICPruner(BASES[base]()), DIRECTIONS[direction]), VALUES, counted)
    all_calls = len(calls)
    calls.clear()
    played = Play(study(TICPruner(BASES[base]()), DIRECTIONS[direction]), VALUES, where_wanted)
    assert played.pruned_at == everywhere.pruned_at == native(base)
    print(base, direction, all_calls, len(calls))
    assert len(calls) < 0.6 * all_calls
