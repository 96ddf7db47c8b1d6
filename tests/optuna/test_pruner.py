"""Recorded criteria are decided on as if they had been reported in a study that minimizes."""

import math

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
from gentheory.optuna.pruner import decide, pruner_of
from gentheory.pruning.observation import Observation

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

BASES = {
    "median": lambda: MedianPruner(3, 2),
    "median in intervals": lambda: MedianPruner(3, 2, 4, n_min_trials=2),
    "percentile": lambda: PercentilePruner(25.0, 3),
    "halving": lambda: SuccessiveHalvingPruner(1, 3),
    "halving auto": lambda: SuccessiveHalvingPruner(),
    "halving later": lambda: SuccessiveHalvingPruner(3, 3, 1, bootstrap_count=1),
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
@pytest.mark.parametrize(
    ("base", "share"),
    [
        ("halving", 0.5),
        ("halving auto", 0.75),
        ("hyperband", 0.25),
        ("hyperband auto", 0.4),
        ("threshold", 0.3),
    ],
)
def test_evaluating_only_where_the_pruner_looks_changes_no_decision(native, base, share, direction):
    calls = []

    def counted(trial, step, value):
        calls.append(trial.study.study_name)
        return observe(trial, step, value)

    def where_wanted(trial, step, value):
        pruner = pruner_of(trial)
        return pruner.wants(trial.study, trial, step) and counted(trial, step, value)

    directions = DIRECTIONS[direction]
    everywhere = Play(study(TICPruner(BASES[base]()), directions), VALUES, counted)
    num_everywhere = len(calls)
    played = Play(study(TICPruner(BASES[base]()), directions), VALUES, where_wanted)
    assert played.pruned_at == everywhere.pruned_at == native(base)
    assert len(calls) - num_everywhere < share * num_everywhere


@pytest.mark.parametrize(
    "base", ["median", "percentile", "wilcoxon", "patient", "patient median", "patient hyperband"]
)
def test_pruners_that_look_back_want_every_step(base):
    pruner = TICPruner(BASES[base]())
    played = study(pruner)
    trial = played.ask()
    for step in range(20):
        assert pruner.wants(played, trial, step)
        observe(trial, step, 1.0)


@pytest.mark.parametrize("skipped", [1, 4], ids=["of the warm-up", "within an interval"])
def test_a_step_left_out_changes_what_median_decides(skipped):
    """Trap: it compares the best over all steps, so those where it never prunes count too."""
    played = study(TICPruner(MedianPruner(1, n_warmup_steps=2, interval_steps=3)))
    rival = played.ask()
    for step in range(6):
        record(rival, step, Observation(1.0))
    played.tell(rival, 1.0)
    for steps, pruned in (range(6), False), (set(range(6)) - {skipped}, True):
        trial = played.ask()
        for step in steps:
            record(trial, step, Observation(0.5 if step == skipped else 2.0))
        assert decide(trial, 5) is pruned


def test_halving_looks_at_the_next_step_where_a_rung_had_no_estimate():
    """What would have been compared, had nothing been reported at the rung."""
    pruner = TICPruner(SuccessiveHalvingPruner(2, 2))
    played = study(pruner)
    trial = played.ask()
    assert [pruner.wants(played, trial, step) for step in (1, 2)] == [False, True]
    record(trial, 2, Observation(math.nan, state="unknown", reason="no convergence"))
    assert not decide(trial, 2)
    assert pruner.wants(played, trial, 3)
    observe(trial, 3, 1.0)
    assert [pruner.wants(played, trial, step) for step in (3, 4, 5)] == [False, True, True]


def test_a_pruner_that_inherits_may_look_anywhere():
    class Own(SuccessiveHalvingPruner):
        pass

    pruner = TICPruner(Own(2, 2))
    played = study(pruner)
    assert pruner.wants(played, played.ask(), 1)
    assert not TICPruner(SuccessiveHalvingPruner(2, 2)).wants(played, played.ask(), 1)


@pytest.mark.parametrize("base", ["halving", "hyperband", "median", "wilcoxon"])
def test_the_same_study_twice_decides_the_same(base):
    once, again = (
        Play(study(TICPruner(BASES[base]())), VALUES[:20], observe_where_wanted).pruned_at
        for _ in range(2)
    )
    assert once == again != {}


def test_values_of_pruned_trials_are_not_criteria():
    """Trap: a pruned trial takes the last reported value for its own, in whichever unit."""
    trials = Play(study(TICPruner(BASES["halving"]())), VALUES[:10]).study.trials
    pruned = [each for each in trials if each.state is optuna.trial.TrialState.PRUNED]
    assert len(pruned) > 2
    assert all(each.value is None and not each.intermediate_values for each in pruned)


def test_asking_optuna_itself_gives_the_same():
    """`trial.should_prune` reaches the pruner by the study, at the last step observed."""

    def asked(trial, step, value):
        record(trial, step, Observation(value))
        return trial.should_prune()

    values = VALUES[:20]
    ours = Play(study(TICPruner(BASES["halving"]())), values)
    assert Play(study(TICPruner(BASES["halving"]())), values, asked).pruned_at == ours.pruned_at
    trial = ours.study.ask()
    assert not trial.should_prune()


def test_several_objectives_are_what_optuna_refuses():
    played = study(TICPruner(NopPruner()), DIRECTIONS["several"])
    trial = played.ask()
    with pytest.raises(NotImplementedError, match="not supported for multi-objective"):
        reported(trial, 0, 1.0)
    assert not observe(trial, 0, 1.0)


def test_wilcoxon_compares_with_the_feasible_best_of_a_maximizing_study():
    """The view minimizes; which trial is best is the study's to say, with its constraints."""
    played = study(TICPruner(WilcoxonPruner()), ["maximize"])
    for value, level, violation in (3.0, 9.0, 1.0), (2.0, 0.1, 0.0), (1.0, 9.0, 0.0):
        trial = played.ask()
        trial.set_constraint("memory", violation)
        for step in range(12):
            record(trial, step, Observation(level))
        played.tell(trial, value)
    trial = played.ask()
    assert any(observe(trial, step, 1.0 + 0.01 * step) for step in range(12))


def test_wilcoxon_with_several_objectives_waits_for_a_criterion():
    played = study(TICPruner(WilcoxonPruner()), DIRECTIONS["several"])
    played.tell(played.ask(), [0.0, 0.0])
    trial = played.ask()
    assert not any(observe(trial, step, float(step)) for step in range(9))


def test_a_pruner_may_stop_the_study():
    class Stops(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            study.stop()
            return False

    played = study(TICPruner(Stops()))
    played.optimize(lambda trial: float(observe(trial, 0, 1.0)), n_trials=5)
    assert len(played.trials) == 1


def test_what_a_pruner_changes_in_its_view_stays_there():
    """Deep copies are copies."""

    class Writes(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            for each in study.trials:
                each.user_attrs.clear()
            assert study._storage.get_trial(trial._trial_id).intermediate_values == {0: 1.0}
            return not study.get_trials(deepcopy=False)[0].intermediate_values

    played = study(TICPruner(Writes()))
    assert not observe(played.ask(), 0, 1.0)


def diverging(trial, step, value):
    return observe(trial, step, math.nan if trial.number % 7 == 3 and step > 2 else value)


@pytest.mark.parametrize("base", ["median", "halving", "hyperband", "wilcoxon"])
def test_divergence_prunes_at_once(base):
    """Trap: Wilcoxon never prunes on nan, halving only at a rung."""
    values = curves(21)
    values[3::7, 0] = 0.0  # Promising before.
    played = Play(study(TICPruner(BASES[base]())), values, diverging)
    assert [played.pruned_at[number] for number in (3, 10, 17)] == [3, 3, 3]


def test_divergence_is_ignored_as_if_nothing_had_been_observed():
    def without(trial, step, value):
        return not (trial.number % 7 == 3 and step > 2) and observe(trial, step, value)

    values = curves(21)
    ignoring = Play(study(TICPruner(MedianPruner(3), nan="ignore")), values, diverging)
    assert ignoring.pruned_at == Play(study(TICPruner(MedianPruner(3))), values, without).pruned_at


def test_divergence_fails_a_trial_if_asked():
    played = study(TICPruner(MedianPruner(), nan="raise"))

    def objective(trial):
        return float(observe(trial, 1, math.nan))

    with pytest.raises(FloatingPointError, match=r"Trial 0 diverged at step 1: the training loss"):
        objective(played.ask())
    played.optimize(objective, n_trials=1, catch=(FloatingPointError,))
    assert played.trials[1].state is optuna.trial.TrialState.FAIL


def test_unknown_continues_with_a_logged_reason(caplog):
    played = study(TICPruner(ThresholdPruner(upper=0.0)))
    trial = played.ask()
    record(trial, 4, Observation(math.nan, state="unknown", reason="cg did not converge"))
    assert not decide(trial, 4)
    assert "Trial 0 continues: its criterion at step 4 is unknown (cg did not" in caplog.text
    assert observe(trial, 5, 1.0)


def test_nothing_recorded_prunes_nothing():
    assert not decide(study(TICPruner(PatientPruner(None, 0))).ask(), 3)


def test_a_study_loaded_without_its_pruner_is_refused():
    """Trap: `load_study` without a pruner silently takes the median."""
    storage = optuna.storages.InMemoryStorage()
    study(TICPruner(NopPruner()), storage=storage)
    loaded = optuna.load_study(study_name="curves", storage=storage)
    message = r"study.pruner: found MedianPruner, expected a TICPruner; .*to load_study as well"
    with pytest.raises(InputError, match=message):
        decide(loaded.ask(), 0)


def test_a_wrapper_belongs_inside():
    """Trap: outside, it compares reported values, of which there are none."""
    played = study(PatientPruner(TICPruner(MedianPruner()), 1))
    found = r"found PatientPruner\(TICPruner\(MedianPruner\)\), expected TICPruner outermost"
    with pytest.raises(InputError, match=found):
        decide(played.ask(), 0)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (lambda: TICPruner(NopPruner()), r"found TICPruner\(NopPruner\), .*; write TICPruner once"),
        (lambda: PatientPruner(TICPruner(NopPruner()), 1), r"found PatientPruner\(TICPruner"),
        (lambda: MedianPruner, r"found <class .*MedianPruner'>, expected a pruner of Optuna"),
    ],
    ids=["twice", "inside", "a class"],
)
def test_what_cannot_be_wrapped_is_refused(base, message):
    with pytest.raises(InputError, match=message):
        TICPruner(base())


def test_an_unknown_word_for_divergence_is_refused():
    with pytest.raises(InputError, match=r"found 'stop', .*; give one of prune, ignore, raise"):
        TICPruner(NopPruner(), nan="stop")


def test_a_trial_played_again_is_never_pruned():
    """As in Optuna, where an objective is called with the best trial or with fixed parameters."""
    played = study(TICPruner(PatientPruner(None, 0)))
    played.tell(played.ask(), 1.0)
    for trial in optuna.trial.FixedTrial({}), played.best_trial:
        assert pruner_of(trial) is None
        assert not any(decide(trial, step) for step in range(5))


def test_what_is_no_trial_is_refused():
    with pytest.raises(InputError, match=r"trial: found object, expected an optuna.Trial"):
        pruner_of(object())
