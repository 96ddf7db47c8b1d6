import math
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from gentheory.pruner_benchmark.arms import Candidates
from gentheory.pruner_benchmark.bases import BASES, HALVING_3, HYPERBAND, MEDIAN, NOP
from gentheory.pruner_benchmark.regret import GRID, Truth, choices, false_pruning, scores, steps
from gentheory.pruner_benchmark.replay import (
    COMPLETE,
    DIVERGED,
    PRUNED,
    UNKNOWN,
    quiet,
    replay,
    simulate,
)


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    with quiet():
        yield


def by_hand(*, epoch_cost: tuple[float, ...] = (1, 1, 1)) -> Candidates:
    """Three trials A, B, C over three epochs, so that halving by three has rungs at 1 and 3."""
    signal = np.array([[0.9, 0.8, 0.5], [0.5, 0.4, 0.3], [0.7, 0.6, 0.1]])
    costs = np.array(epoch_cost, dtype=float), np.full(3, 0.5), np.zeros(3)
    return Candidates(signal, np.zeros((3, 3), dtype=bool), *costs)


TRUTH = Truth(
    {"test_loss": np.array([0.6, 0.2, 0.15]), "test_error": np.array([0.3, 0.1, 0.2])},
    best={"test_loss": 0.15, "test_error": 0.1},
    blind={"test_loss": 0.2, "test_error": 0.2},
)


def test_three_trials_by_hand() -> None:
    """A is alone at both rungs, B better than A at both, C the second of three at the first."""
    seen = by_hand()
    done = replay(seen, HALVING_3, workers=1, name="by hand")
    assert list(done.outcome) == [COMPLETE, COMPLETE, PRUNED]
    assert list(done.epochs) == [3, 3, 1]
    assert list(done.looks) == [2, 2, 1]
    np.testing.assert_allclose(done.ended, [4.0, 8.0, 9.5])
    np.testing.assert_allclose(done.finish, [9.5])
    spent, chosen = choices(seen, done)
    np.testing.assert_allclose(spent, [4.0, 8.0])
    assert list(chosen) == [0, 1]


def test_regret_cost_and_false_pruning_by_hand() -> None:
    seen = by_hand()
    found = scores(seen, replay(seen, HALVING_3, workers=1, name="by hand"), TRUTH)
    # Regrets are 0.45, 0.05 and 0: before the first end their median, B's, then A's.
    assert [found[f"test_loss.{share}"] for share in (10, 25, 50)] == pytest.approx(
        [0.05, 0.05, 0.45]
    )
    parts = 0.05 * math.log(4 / 0.09) + 0.45 * math.log(8 / 4) + 0.05 * math.log(9 / 8)
    assert found["test_loss.area"] == pytest.approx(parts / math.log(100))
    assert found["test_error.50"] == pytest.approx(0.2)
    curve = found["test_loss.curve"]
    assert isinstance(curve, np.ndarray)
    np.testing.assert_allclose(curve[GRID * 9 < 4], 0.05)
    assert curve[-1] == pytest.approx(0.05)
    assert (found["false.1"], found["false.10"]) == (1.0, 1.0)  # C is the best.
    assert found["epochs"] == 7
    assert found["cost"] == pytest.approx(9.5)
    assert found["measuring"] == pytest.approx(2.5 / 9.5)
    assert found["wall"] == pytest.approx(9.5)


def test_two_workers_by_hand() -> None:
    """An epoch of B costs two: A ends at 4, C takes its worker until 5.5, B ends at 7."""
    seen = by_hand(epoch_cost=(1, 2, 1))
    done = replay(seen, HALVING_3, workers=2, name="by hand")
    assert list(done.outcome) == [COMPLETE, COMPLETE, PRUNED]
    np.testing.assert_allclose(done.ended, [4.0, 7.0, 5.5])
    np.testing.assert_allclose(done.finish, [5.5, 7.0])
    np.testing.assert_allclose(done.spent(np.array([4.0, 6.0, 7.0])), [8.0, 11.5, 12.5])
    found = scores(seen, done, TRUTH)
    assert (found["wall"], found["cost"]) == (7.0, 12.5)


def test_workers_get_trials_in_the_order_in_which_they_are_free() -> None:
    clocks: list[tuple[str, float]] = []

    def work(name: str, costs: list[float]) -> Iterator[float]:
        for cost in costs:
            clock = yield cost
            clocks.append((name, clock))

    finish = np.zeros(3)
    simulate([work("a", [2, 2]), work("b", [1, 3]), work("c", [])], finish)
    assert clocks == [("b", 1), ("a", 2), ("a", 4), ("b", 4)]
    np.testing.assert_array_equal(finish, [4, 4, 0])


def many(count: int = 24, epochs: int = 9, seed: int = 0) -> Candidates:
    random = np.random.default_rng(seed)
    final = random.uniform(size=(count, 1))
    signal = final + np.exp(-np.arange(epochs) / 2) + 0.1 * random.normal(size=(count, epochs))
    costs = np.ones(count), np.full(count, 0.1), np.zeros(count)
    return Candidates(signal, np.zeros((count, epochs), dtype=bool), *costs)


@pytest.mark.parametrize("base", BASES)
def test_decisions_are_those_of_a_native_study(base: str) -> None:
    """Where all steps are reported in `study.optimize`, although the replay skips some."""
    seen = many()

    def objective(trial: optuna.Trial) -> float:
        for epoch, value in enumerate(seen.signal[trial.number], 1):
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return seen.signal[trial.number, -1]

    study = optuna.create_study(pruner=BASES[base](seen.horizon), study_name="native")
    study.optimize(objective, n_trials=len(seen.signal))
    done = replay(seen, base, workers=1, name="native")
    assert list(done.epochs) == [trial.last_step for trial in study.trials]
    ended = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED}
    assert [ended[outcome] for outcome in done.outcome] == [t.state for t in study.trials]
    assert (done.outcome == PRUNED).any() or base == NOP


def test_looks_are_charged_where_a_pruner_looks_and_at_the_end() -> None:
    seen = many()
    for base, expected in ((NOP, {1}), (HALVING_3, {1, 2, 3}), (MEDIAN, set(range(1, 10)))):
        done = replay(seen, base, workers=1, name="looks")
        assert set(done.looks) <= expected
        if base == MEDIAN:
            np.testing.assert_array_equal(done.looks, done.epochs)
        np.testing.assert_allclose(done.finish, done.epochs.sum() + 0.1 * done.looks.sum())
    whole = replay(seen, NOP, workers=1, name="looks")
    np.testing.assert_array_equal(whole.epochs, 9)
    assert whole.finish[0] == pytest.approx(24 * 9.1)


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_every_trial_is_run_once_and_no_worker_idles(workers: int) -> None:
    seen = many()
    done = replay(seen, HYPERBAND, workers=workers, name="workers")
    cost = done.epochs @ seen.epoch_cost + done.looks @ seen.look_cost
    assert done.finish.sum() == pytest.approx(cost)
    assert done.ended.max() == pytest.approx(done.finish.max())
    assert (done.epochs >= 1).all()
    assert done.spent(done.ended.max()[None])[0] == pytest.approx(cost)


@pytest.mark.parametrize("base", BASES)
def test_a_diverged_model_ends_its_trial_and_is_never_chosen(base: str) -> None:
    seen = many()
    signal, diverged = seen.signal.copy(), seen.diverged.copy()
    diverged[2, 4:] = True
    signal[2] = -5.0  # The best so far, so that no pruner would end it.
    done = replay(replace(seen, signal=signal, diverged=diverged), base, workers=1, name="nan")
    assert (done.outcome[2], done.epochs[2]) == (DIVERGED, 5)
    _, chosen = choices(replace(seen, signal=signal, diverged=diverged), done)
    assert 2 not in chosen


@pytest.mark.parametrize("base", BASES)
def test_what_is_unknown_goes_on_is_charged_and_is_not_chosen(base: str) -> None:
    seen = many()
    signal = seen.signal.copy()
    signal[0] = np.nan
    unknown = replace(seen, signal=signal)
    done = replay(unknown, base, workers=1, name="unknown")
    assert (done.outcome[0], done.epochs[0]) == (UNKNOWN, 9)
    assert done.looks[0] >= 1
    assert 0 not in choices(unknown, done)[1]


def test_a_rung_is_made_up_for_where_its_value_was_unknown() -> None:
    seen = by_hand()
    signal = seen.signal.copy()
    signal[2, 0] = np.nan
    late = replace(seen, signal=signal)
    done = replay(late, HALVING_3, workers=1, name="late")
    assert (done.outcome[2], done.epochs[2], done.looks[2]) == (PRUNED, 2, 2)


def test_nobody_looks_where_nothing_was_measured() -> None:
    """Criteria after epochs 1 and 3 alone: the trials of three are not charged for epoch 2."""
    seen = by_hand()
    signal = seen.signal.copy()
    signal[:, 1] = np.nan
    sparse = replace(seen, signal=signal)
    done = replay(sparse, MEDIAN, workers=1, name="sparse")
    assert list(done.looks) == [2, 2, 2]
    signal[:, 2] = np.nan
    unknown = replace(seen, signal=signal)
    done = replay(unknown, NOP, workers=1, name="sparse")
    assert list(done.looks) == [0, 0, 0]
    assert list(done.outcome) == [UNKNOWN] * 3


def test_no_completed_trial_is_a_blind_choice() -> None:
    seen = by_hand()
    nothing = np.full_like(seen.signal, np.nan)
    lost = replace(seen, signal=nothing)
    done = replay(lost, NOP, workers=1, name="nothing")
    own = steps(TRUTH, "test_loss", *choices(lost, done))
    assert own.at(np.array([0.0, 1e9])) == pytest.approx([0.05, 0.05])
    assert false_pruning(TRUTH, done, 0.1, 3) == 0.0


def test_no_warning_and_no_line_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        replay(by_hand(), "Patient(Median)", workers=1, name="quiet")
    assert not caught
    assert capsys.readouterr() == ("", "")


def test_a_choice_that_is_trained_once_more_is_there_later() -> None:
    """Without pruning A ends at 3 epochs and 1 look, B at 6 and 2, C at 9 and 3."""
    seen = by_hand()
    done = replay(seen, NOP, workers=1, name="again")
    again = replace(seen, refit_cost=np.array([4.0, 0.0, 2.0]))
    spent, chosen = choices(seen, done)
    later, same = choices(again, done)
    assert list(chosen) == list(same) == [0, 1, 2]
    # B, for which nothing is to be paid, is not there before A, which was chosen first.
    assert list(later) == [max(spent[0] + 4, 0), max(spent[0] + 4, spent[1]), spent[2] + 2]
    plain, found = scores(seen, done, TRUTH), scores(again, done, TRUTH)
    for name in ("cost", "wall"):
        assert found[name] == plain[name] + 2
    assert found["epochs"] == plain["epochs"]
