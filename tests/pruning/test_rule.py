"""Successive halving without Optuna decides as Optuna's own pruner does."""

import math

import numpy as np
import optuna
import pytest

from gentheory.errors import InputError
from gentheory.pruning.observation import Observation
from gentheory.pruning.rule import Halving

optuna.logging.set_verbosity(optuna.logging.WARNING)

RULES = [
    {"min_resource": 1, "reduction_factor": 2},
    {"min_resource": 1, "reduction_factor": 3},
    {"min_resource": 2, "reduction_factor": 4},
    {"min_resource": 1, "reduction_factor": 3, "min_early_stopping_rate": 1},
    {"min_resource": 1, "reduction_factor": 3, "bootstrap_count": 3},
]
TRIALS, STEPS = 40, 27


def curves() -> np.ndarray:
    """With ties, and with a trial in eight that becomes nan."""
    random = np.random.default_rng(0)
    step = np.arange(STEPS)
    rates, levels = random.uniform(0.02, 0.5, (2, TRIALS, 1))
    values = np.round(
        levels + np.exp(-rates * step) + 0.05 * random.normal(size=(TRIALS, STEPS)), 2
    )
    for trial in range(0, TRIALS, 8):
        values[trial, random.integers(STEPS) :] = math.nan
    return values


def interleaved(decide) -> list[int]:
    """How far each trial comes, of four that run at once."""
    values, ends = curves(), [STEPS] * TRIALS
    waiting, running = list(range(TRIALS)), {}
    while waiting or running:
        while waiting and len(running) < 4:
            running[waiting.pop(0)] = 0
        for trial in list(running):
            running[trial] += 1
            step = running[trial]
            if decide(trial, step, float(values[trial, step - 1])):
                ends[trial] = step
                del running[trial]
            elif step == STEPS:
                del running[trial]
    return ends


def by_optuna(rule: dict[str, int]) -> list[int]:
    study = optuna.create_study(pruner=optuna.pruners.SuccessiveHalvingPruner(**rule))
    trials: dict[int, optuna.Trial] = {}

    def decide(number: int, step: int, value: float) -> bool:
        trial = trials.setdefault(number, None) or study.ask()
        trials[number] = trial
        trial.report(value, step)
        return trial.should_prune()

    return interleaved(decide)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("everywhere", [True, False])
def test_the_same_trials_end_at_the_same_steps(rule: dict[str, int], everywhere: bool):
    halving = Halving(**rule)

    def decide(trial: int, step: int, value: float) -> bool:
        if not everywhere and not halving.wants(trial, step):
            return False
        return halving.should_prune(trial, step, Observation(value))

    ends = interleaved(decide)
    assert ends == by_optuna(rule)
    assert len(set(ends)) > 2


def test_rungs_and_their_steps():
    halving = Halving(min_resource=2, reduction_factor=3, min_early_stopping_rate=1)
    assert [halving.step_of(rung) for rung in range(3)] == [6, 18, 54]
    assert [halving.rung_of(step) for step in (0, 5, 6, 17, 18, 54)] == [None, None, 0, 0, 1, 2]


def test_a_rung_keeps_one_in_so_many():
    halving = Halving(reduction_factor=4)
    values = [float(v) for v in range(8)]
    assert [halving.passes(v, values) for v in values] == [True, True] + [False] * 6
    assert halving.passes(3.0, [3.0, 4.0])
    assert not halving.passes(4.0, [3.0, 4.0])
    assert halving.passes(3.0, [3.0] * 4)  # ties pass


def test_divergence_prunes_between_rungs_and_the_unknown_goes_on():
    halving = Halving(min_resource=2, reduction_factor=2)
    assert halving.should_prune("a", 1, Observation(math.nan, "diverged"))
    assert not halving.should_prune("b", 2, Observation(math.nan, "unknown", "too large"))
    assert halving.wants("b", 3)  # it has left no value behind
    assert not halving.should_prune("c", 2, Observation(5.0))
    assert halving.should_prune("b", 3, Observation(6.0))


def test_a_known_value_that_is_nan_prunes_where_it_would_be_compared():
    halving = Halving(min_resource=2)
    assert not halving.should_prune("a", 1, Observation(math.nan))
    assert halving.should_prune("a", 2, Observation(math.nan))


def test_values_by_other_measures_or_examples_are_refused():
    halving = Halving()
    halving.should_prune("a", 1, Observation(1.0, measure="tic.kfac", num_examples=64))
    for measure, count in (("tic.diagonal", 64), ("tic.kfac", 32)):
        message = f"found a value by {measure} of {count} examples, expected one by tic.kfac of 64"
        with pytest.raises(InputError, match=message):
            halving.should_prune("b", 1, Observation(0.5, measure=measure, num_examples=count))
    assert halving.should_prune("b", 1, Observation(1.5, measure="tic.kfac", num_examples=64))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("min_resource", 0),
        ("reduction_factor", 1),
        ("min_early_stopping_rate", -1),
        ("bootstrap_count", -1),
    ],
)
def test_rules_that_are_none(option: str, value: int):
    with pytest.raises(InputError, match=f"{option}: found {value}, expected a whole number"):
        Halving(**{option: value})
