"""What is kept of an attempt, and what its retry counts of it."""

import json
import math

import optuna
import pytest
from optuna.pruners import SuccessiveHalvingPruner
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from played import observe, study

from gentheory.errors import InputError
from gentheory.optuna import TICPruner, resumed
from gentheory.optuna.channel import criteria, observations, record
from gentheory.optuna.view import CriterionTrial
from gentheory.pruning.observation import Observation

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
KNOWN = Observation(1.5, "known", "", 1.0, 0.5, 0.1, 0.2, "tic.kfac")


def halving():
    return TICPruner(SuccessiveHalvingPruner(1, 2))


def latest(trial):
    return trial.study.trials[trial.number]


def failed_and_retried(played):
    """A trial that passed two rungs and failed after step 5, and its retry."""
    trial = played.ask()
    assert not any(observe(trial, step, 1.0) for step in range(1, 6))
    played.tell(trial, state=TrialState.FAIL)
    RetryHeartbeatStaleTrialCallback()(played, latest(trial))
    return trial, played.ask()


def test_each_step_is_one_attribute_of_strict_json():
    """Trap: storages take nan for JSON, which it is not."""
    trial = study(halving()).ask()
    record(trial, 3, KNOWN)
    record(trial, 4, Observation(math.nan, "diverged", "loss is inf", training_loss=math.inf))
    attributes = latest(trial).user_attrs
    assert list(attributes) == ["gentheory:0:3", "gentheory:0:4"]
    assert json.loads(json.dumps(attributes, allow_nan=False)) == attributes
    assert observations(latest(trial))[3] == KNOWN
    assert observations(latest(trial))[4].state == "diverged"
    assert criteria(latest(trial)) == {3: 1.5}


def test_what_a_user_keeps_is_left_alone():
    trial = study(halving()).ask()
    for name in ("gentheory:0:note", "gentheory:00:1", "gentheory:0:", "3"):
        trial.set_user_attr(name, "of the user")
    record(trial, 2, KNOWN)
    assert observations(latest(trial)) == {2: KNOWN}


def test_steps_come_in_order():
    trial = study(halving()).ask()
    for step in (10, 9, 2):
        record(trial, step, KNOWN)
    assert list(criteria(latest(trial))) == [2, 9, 10]


def test_the_first_observation_of_a_step_stays(caplog):
    """Trap: Optuna leaves out a second report at a step, too."""
    trial = study(halving()).ask()
    record(trial, 1, KNOWN)
    record(trial, 1, Observation(0.0))
    assert criteria(latest(trial)) == {1: 1.5}
    assert "Trial 0 was observed at step 1 before." in caplog.text


@pytest.mark.parametrize("criterion", [math.inf, math.nan])
def test_known_means_finite(criterion):
    trial = study(halving()).ask()
    record(trial, 1, Observation(criterion))
    kept = observations(latest(trial))[1]
    assert (kept.state, kept.reason) == ("unknown", f"the criterion is {criterion}")


@pytest.mark.parametrize("step", [-1, 1.0])
def test_a_step_is_a_whole_number(step):
    with pytest.raises(InputError, match=rf"step: found {step}, expected a whole number"):
        record(study(halving()).ask(), step, KNOWN)


def test_a_retry_from_scratch_counts_nothing_of_the_attempt_that_failed():
    """Trap: Optuna copies attributes to the retry, the rungs that were passed among them."""
    failed, retried = failed_and_retried(study(halving()))
    copied = latest(retried)
    assert copied.user_attrs == latest(failed).user_attrs
    assert any("completed_rung_1" in name for name in copied.system_attrs)
    assert criteria(copied) == {}
    seen = CriterionTrial(copied).system_attrs
    assert seen["retry_history"] == [0]
    assert not any(name.startswith("completed_rung") for name in seen)
    assert observe(retried, 1, 9.0)


def test_upstream_a_retry_begins_above_the_rungs_that_were_passed():
    """Trap: why rungs are kept for each attempt here."""
    played = study(SuccessiveHalvingPruner(1, 2))
    trial = played.ask()
    for step in range(1, 6):
        trial.report(1.0, step)
        assert not trial.should_prune()
    played.tell(trial, state=TrialState.FAIL)
    RetryHeartbeatStaleTrialCallback()(played, latest(trial))
    retried = played.ask()
    retried.report(9.0, 1)
    assert not retried.should_prune()


def test_a_resumed_retry_counts_what_was_observed_up_to_its_checkpoint():
    played = study(halving())
    failed, retried = failed_and_retried(played)
    resumed(retried, 3)
    assert list(criteria(latest(retried))) == [1, 2, 3]
    pruner = played.pruner
    assert [pruner.wants(played, retried, step) for step in (4, 7, 8)] == [False, False, True]
    record(retried, 4, Observation(2.0))
    assert criteria(latest(retried)) == {1: 1.0, 2: 1.0, 3: 1.0, 4: 2.0}
    assert criteria(latest(failed)) == dict.fromkeys(range(1, 6), 1.0)


def test_a_retry_of_a_retry_counts_as_far_as_each_resumed():
    played = study(halving())
    _, second = failed_and_retried(played)
    resumed(second, 3)
    record(second, 4, Observation(4.0))
    played.tell(second, state=TrialState.FAIL)
    RetryHeartbeatStaleTrialCallback()(played, latest(second))
    third = played.ask()
    assert criteria(latest(third)) == {}
    resumed(third, 9)
    assert criteria(latest(third)) == {1: 1.0, 2: 1.0, 3: 1.0, 4: 4.0}


def test_a_first_attempt_resumes_nothing():
    with pytest.raises(InputError, match=r"trial 0: found a first attempt, .*; call resumed"):
        resumed(study(halving()).ask(), 3)


def test_criteria_are_not_compared_with_reported_values_of_an_earlier_use():
    """Rungs that a study passed natively are of another unit."""
    storage = optuna.storages.InMemoryStorage()
    native = study(SuccessiveHalvingPruner(1, 2), storage=storage)
    trial = native.ask()
    trial.report(-100.0, 1)
    assert not trial.should_prune()
    native.tell(trial, -100.0)
    ours = optuna.load_study(study_name="curves", storage=storage, pruner=halving())
    assert not observe(ours.ask(), 1, 1.0)
