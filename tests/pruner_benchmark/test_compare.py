import dataclasses
import math

import made_curves
import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.pruner_benchmark import compare
from gentheory.pruner_benchmark.arms import ORACLE, RANDOM, REFERENCE, TRAINING, Arm
from gentheory.pruner_benchmark.bases import BASES, HALVING_3, NOP
from gentheory.pruner_benchmark.benchmark import Design, Outcome, Run, bench, play
from gentheory.pruner_benchmark.curves import Curves
from gentheory.pruner_benchmark.means import Means
from gentheory.pruner_benchmark.ranking import taus
from gentheory.pruner_benchmark.regret import GRID
from gentheory.stats import bootstrap, holm, kendall

DESIGN = Design(orders=5, trials=12, workers=(1, 2), resamples=50)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """Two settings, with a criterion that is the validation loss under another name."""
    rows = made_curves.two_settings(seeds=1, epochs=3).rows.copy()
    rows["copy"], rows["copy seconds"] = rows["validation_loss"], rows["validation_seconds"]
    rows.loc[rows["data"] == "all", "copy"] = rows["train_loss"]
    return bench(Curves(rows), DESIGN)


@pytest.fixture(scope="module")
def differences(outcome: Outcome) -> pd.DataFrame:
    return compare.differences(Means(outcome))


def test_the_oracle_ends_without_regret_and_noise_is_the_worst(outcome: Outcome) -> None:
    for base in BASES:
        curves = {
            arm.signal: np.mean(
                [
                    outcome.played[setting, arm].scores[Run(base, 1)]["test_loss.curve"]
                    for setting in outcome.tables
                ],
                axis=0,
            )
            for arm in outcome.arms("wide")
            if arm.final_data == "training"
        }
        # On the training examples alone no model gets below the gain of all the data.
        np.testing.assert_allclose(curves[ORACLE][:, -1], 0.05, atol=1e-12)
        last = {signal: curve[:, -1].mean() for signal, curve in curves.items()}
        assert min(last, key=lambda signal: last[signal]) in (
            ORACLE,
            "tic",
            "tic (bounded)",
            TRAINING,
        )
        assert last["tic"] < last[RANDOM]
        assert last["validation loss"] < last[RANDOM]
    free = outcome.played["wide", Arm(ORACLE, "all")].scores[Run(HALVING_3, 1)]
    np.testing.assert_array_equal(free["test_loss.curve"][:, -1], 0)
    np.testing.assert_array_equal(free["false.1"], 0)


def test_equal_signals_differ_by_exactly_nothing(differences: pd.DataFrame) -> None:
    same = differences.loc[
        (differences["arm"] == "copy") & (differences["rival"] == "validation loss")
    ]
    assert len(same) == 4 * 10 * len(compare.REGRETS)
    for column in ("difference", "difference.low", "difference.high", "bound", "better"):
        assert (same[column] == 0).all()
    assert (same["p"] == 1).all()
    assert (same["holm"] == 1).all()


def test_differences_are_paired_order_by_order(outcome: Outcome, differences: pd.DataFrame) -> None:
    row = differences.set_index(["scope", "base", "workers", "arm", "rival", "metric"]).loc[
        ("wide", HALVING_3, 1, "tic, all data", "validation loss", "test_loss.area")
    ]
    run = Run(HALVING_3, 1)
    own, other = (
        outcome.played["wide", arm].scores[run]["test_loss.area"]
        for arm in (Arm("tic", "all"), REFERENCE)
    )
    lead = own - other
    assert row["difference"] == pytest.approx(lead.mean())
    assert row["difference.stderr"] == pytest.approx(lead.std() / math.sqrt(len(lead)), rel=0.4)
    assert row["better"] == (lead < 0).mean()
    # All twelve configurations are in every order, so nothing of its spread is averaged away.
    assert row["bound"] == pytest.approx(math.sqrt((1 + 1 / 5) * lead.var(ddof=1)))


def test_a_regime_is_the_mean_of_its_settings(outcome: Outcome) -> None:
    tables = {
        name: dataclasses.replace(table, regime="lazy") for name, table in outcome.tables.items()
    }
    means = Means(dataclasses.replace(outcome, tables=tables))
    assert [scope.label for scope in means.scopes] == ["lazy", "wide", "narrow"]
    run, names = Run(NOP, 1), ("test_loss.area", "wall")
    lazy, *each = (means.of(scope, run, REFERENCE, names) for scope in means.scopes)
    np.testing.assert_allclose(lazy.value, (each[0].value + each[1].value) / 2)
    np.testing.assert_allclose(lazy.samples, (each[0].samples + each[1].samples) / 2)


def test_holm_is_over_the_arms_of_a_number(differences: pd.DataFrame) -> None:
    keys = ["scope", "base", "workers", "rival", "metric"]
    for _, rows in list(differences.groupby(keys))[::37]:
        tested = rows.loc[~rows["signal"].isin([RANDOM, ORACLE])]
        np.testing.assert_allclose(tested["holm"], holm(tested["p"]))
        assert rows.loc[rows["signal"].isin([RANDOM, ORACLE]), "holm"].isna().all()


def test_the_training_loss_is_a_rival_on_the_same_data(differences: pd.DataFrame) -> None:
    rows = differences.loc[differences["rival"] == TRAINING]
    assert "training loss" not in set(rows["arm"])
    assert "validation loss" in set(rows["arm"])
    assert "tic, all data" in set(rows["arm"])


def test_rows_may_come_in_any_order_and_a_permuted_study_ends_alike() -> None:
    rows = made_curves.setting(configs=8, epochs=3)
    (one,), (two,) = Curves(rows).tables(), Curves(rows.sample(frac=1, random_state=3)).tables()
    design = Design(orders=3, trials=8, workers=(1,), resamples=10)
    arm = Arm("tic", "training")
    first, second = play(one, arm, design), play(two, arm, design)
    for run, scores in first.scores.items():
        for name, column in scores.items():
            np.testing.assert_array_equal(column, second.scores[run][name])
    # Without pruning and with one seed, only the way to the end depends on the order.
    (table,) = Curves(made_curves.setting(configs=8, seeds=1, epochs=3)).tables()
    last = play(table, Arm(TRAINING, "training"), design).scores[Run(NOP, 1)]
    assert len(set(last["cost"])) == 1
    curve = last["test_loss.curve"]
    assert len(np.unique(curve[:, -1])) == 1
    assert len(np.unique(curve[:, 40])) > 1


def test_processes_do_not_change_a_number() -> None:
    curves = Curves(made_curves.setting(configs=5, epochs=3, kinds=("training",)))
    design = Design(orders=2, trials=4, workers=(1,), resamples=10)
    seen: list[tuple[int, int, str]] = []
    alone = bench(curves, design)
    spread = bench(curves, design, processes=2, progress=lambda *each: seen.append(each))
    assert seen == [(count, 7, "net") for count in range(1, 8)]
    assert list(alone.played) == list(spread.played)
    for piece, played in alone.played.items():
        for run, scores in played.scores.items():
            for name, column in scores.items():
                np.testing.assert_array_equal(column, spread.played[piece].scores[run][name])


def test_savings_by_hand() -> None:
    rival = -np.log(GRID)[None] + 1
    half = rival - math.log(2)  # As low with half of the budget.
    more = rival + math.log(1.5)
    for fraction in (0.1, 0.25, 0.5):
        assert compare.saved(rival, rival, fraction) == pytest.approx([0.0])
        assert compare.saved(half, rival, fraction) == pytest.approx([0.5])
        assert compare.saved(more, rival, fraction) == pytest.approx([-0.5])
        assert compare.saved(rival * 0, rival, fraction) == pytest.approx([1 - 0.01 / fraction])
        assert np.isnan(compare.saved(rival + 9, rival, fraction)).all()


def test_tau_is_that_of_the_rows_with_configurations_resampled() -> None:
    (table,) = Curves(made_curves.setting(configs=10, seeds=2, epochs=3)).tables()
    arm = Arm("tic", "all")
    found = {(tau.epoch, tau.target): tau for tau in taus(table, arm, resamples=200, seed=0)}
    assert list(found) == [
        *((1, "test_loss"), (1, "test_error"), (2, "test_loss")),
        *((3, "test_loss"), (3, "test_error")),
    ]
    final = table.columns["all"]["test_loss"][:, :, -1].ravel()
    signal = table.columns["all"]["tic"][:, :, 1].ravel()
    own = found[2, "test_loss"]
    assert own.kendall[0] == pytest.approx(kendall(signal, final))
    held = table.columns["training"]
    rival = kendall(held["validation_loss"][:, :, 1].ravel(), held["test_loss"][:, :, -1].ravel())
    assert own.leads["validation loss"][0] == pytest.approx(own.kendall[0] - rival)
    clusters = np.repeat(np.arange(10), 2)
    expected = bootstrap(kendall, signal, final, clusters=clusters, num_resamples=2000, seed=1)
    assert own.kendall[1].std() == pytest.approx(expected.stderr, rel=0.25)
    assert own.count == 20


def test_diverged_models_are_in_no_tau() -> None:
    rows = made_curves.setting(configs=10, seeds=1, epochs=3)
    lost = (rows["config"] == "c003") & (rows["epoch"] == 3)
    rows.loc[lost, made_curves.SMALL] = np.nan
    (table,) = Curves(rows).tables()
    assert {tau.count for tau in taus(table, REFERENCE, resamples=20, seed=0)} == {9}


@pytest.mark.parametrize("option", ["orders", "trials", "resamples"])
def test_too_few_are_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"{option}: found 1, expected at least"):
        Design(**{option: 1})
