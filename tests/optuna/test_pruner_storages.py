"""One contract over the storages; several processes at once; trials that Optuna retries."""

import json
import multiprocessing
import time

import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import TrialState
from played import DIRECTIONS, Play, curves, observe, observe_where_wanted, reported, study
from stores import STORES, work

from gentheory.optuna import TICPruner
from gentheory.optuna.channel import criteria, observations

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
BASES = {
    "halving": (lambda: SuccessiveHalvingPruner(1, 2), "several"),
    "hyperband": (lambda: HyperbandPruner(1, 9, 3), "maximize"),
    "median": (lambda: MedianPruner(3, 1), "minimize"),
}
VALUES = curves(12, steps=9)


@pytest.fixture(scope="module", params=STORES)
def opened(request, tmp_path_factory):
    with STORES[request.param](tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.mark.parametrize("base", BASES)
def test_a_resumed_study_decides_as_an_undisturbed_one_of_reports(opened, base):
    """Trap: Hyperband reads the direction from the storage again."""
    make, direction = BASES[base]
    native = Play(study(make(), name=base), VALUES, reported, workers=1)
    begun = study(TICPruner(make()), DIRECTIONS[direction], name=base, storage=opened())
    pruned_at = Play(begun, VALUES[:4], workers=1).pruned_at
    resumed = optuna.load_study(study_name=base, storage=opened(), pruner=TICPruner(make()))
    pruned_at |= Play(resumed, VALUES, observe_where_wanted, workers=1).pruned_at
    assert pruned_at == native.pruned_at != {}


def test_what_was_observed_is_read_back_from_anywhere(opened):
    played = study(TICPruner(MedianPruner()), name="read", storage=opened())
    first, second = played.ask(), played.ask()
    observe(first, 1, 0.25)
    observe(second, 2, float("nan"))
    seen = optuna.load_study(study_name="read", storage=opened()).trials
    assert [criteria(each) for each in seen] == [{1: 0.25}, {}]
    assert observations(seen[1])[2].reason == "the training loss is nan"
    attributes = [each.user_attrs for each in seen]
    assert json.loads(json.dumps(attributes, allow_nan=False)) == attributes


@pytest.mark.parametrize("store", ["sqlite", "journal"])
def test_two_processes_at_once(store, tmp_path):
    pruner = TICPruner(SuccessiveHalvingPruner(1, 2))
    with STORES[store](tmp_path) as opened:
        study(pruner, storage=opened())
    best = VALUES.min(axis=0) - 1.0
    values = VALUES.copy()
    values[5] = best
    context = multiprocessing.get_context("spawn")
    job = (store, tmp_path, pruner, observe_where_wanted, values)
    processes = [context.Process(target=work, args=job) for _ in range(2)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
    assert [each.exitcode for each in processes] == [0, 0]
    with STORES[store](tmp_path) as opened:
        trials = optuna.load_study(study_name="curves", storage=opened()).trials
    assert [each.number for each in trials] == list(range(len(values)))
    assert trials[5].state is TrialState.COMPLETE  # Halving promotes the best at every rung.
    assert sum(each.state is TrialState.PRUNED for each in trials) > 2
    for trial in trials:
        seen = criteria(trial)
        assert set(seen) <= {1, 2, 4, 8}
        assert all(value == values[trial.number][step - 1] for step, value in seen.items())


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed:UserWarning")
def test_a_trial_that_stopped_beating_is_retried_from_its_lowest_rung(tmp_path):
    storage = RDBStorage(
        f"sqlite:///{tmp_path}/study.db",
        heartbeat_interval=1,
        grace_period=1,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
    )
    played = study(TICPruner(SuccessiveHalvingPruner(1, 2)), storage=storage)
    lost = played.ask()
    storage.record_heartbeat(lost._trial_id)
    assert not any(observe(lost, step, 1.0) for step in range(1, 6))
    time.sleep(2.1)
    fail_stale_trials(played)
    assert played.trials[0].state is TrialState.FAIL
    retried = played.ask()
    assert retried.number == 1
    assert criteria(played.trials[1]) == {}
    assert observe(retried, 1, 9.0)
