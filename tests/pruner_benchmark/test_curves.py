from pathlib import Path

import duckdb
import made_curves
import numpy as np
import pandas as pd
import pytest

from gentheory.errors import InputError
from gentheory.pruner_benchmark.arms import (
    ORACLE,
    RANDOM,
    REFERENCE,
    REFIT,
    TIME,
    TRAINING,
    Arm,
    View,
    arms,
    draw_order,
    look_cost,
    values,
)
from gentheory.pruner_benchmark.curves import Curves
from gentheory.pruner_benchmark.regret import Truth


def test_rows_become_dense_arrays_whatever_their_order() -> None:
    rows = made_curves.setting(configs=4, seeds=2, epochs=3)
    (table,) = Curves(rows).tables()
    (other,) = Curves(rows.sample(frac=1, random_state=0)).tables()
    assert table.configs == other.configs == ("c000", "c001", "c002", "c003")
    assert (table.setting, table.regime, table.horizon) == ("net", "lazy", 3)
    row = rows.loc[
        (rows["config"] == "c002")
        & (rows["seed"] == 1)
        & (rows["epoch"] == 2)
        & (rows["data"] == "all")
    ]
    assert table.columns["all"]["test_loss"][2, 1, 1] == row["test_loss"].item()
    for kind, columns in table.columns.items():
        for name, column in columns.items():
            np.testing.assert_array_equal(column, other.columns[kind][name])
    assert table.present.all()


def test_costs_are_each_configurations_median_in_epochs() -> None:
    rows = made_curves.setting(configs=3, seeds=1, epochs=3)
    slow = (rows["config"] == "c001") & (rows["data"] == "training")
    rows.loc[slow, "epoch_seconds"] = [2.0, 30.0, 3.0]
    rows.loc[rows["config"] == "c002", "tic seconds"] = np.nan
    (table,) = Curves(rows).tables()
    assert table.unit == 1.0
    np.testing.assert_allclose(table.cost("training", "epoch_seconds"), [1.0, 3.0, 1.0])
    np.testing.assert_allclose(table.cost("all", "epoch_seconds"), 1.1)
    np.testing.assert_allclose(look_cost(table, REFERENCE), 0.1)
    np.testing.assert_allclose(look_cost(table, REFIT), 0.1)
    np.testing.assert_allclose(look_cost(table, Arm("tic", "all")), 0.2)
    np.testing.assert_array_equal(look_cost(table, Arm(TRAINING, "all")), 0)


def test_halves_are_fixed_and_disjoint() -> None:
    curves = Curves(made_curves.setting(configs=40, seeds=1, epochs=2))
    first, second = (set(curves.half(h).rows["config"]) for h in ("first-half", "second-half"))
    assert first | second == set(curves.rows["config"])
    assert not first & second
    assert 10 < len(first) < 30
    assert curves.half("all") is curves
    less = Curves(made_curves.setting(configs=20, seeds=2, epochs=2))
    assert set(less.half("first-half").rows["config"]) == first & set(less.rows["config"])
    with pytest.raises(InputError, match="configs: found third, expected all or first-half or"):
        curves.half("third")


def test_a_parquet_file_is_read(tmp_path: Path) -> None:
    rows = made_curves.setting(configs=3, seeds=1, epochs=2)
    file = tmp_path / "curves.parquet"
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        connection.execute(f"copy (select * from rows) to '{file}' (format parquet)")
    found = Curves.read(file)
    assert found.criteria == ("tic",)
    pd.testing.assert_frame_equal(found.rows, rows, check_dtype=False)
    with pytest.raises(InputError, match="found no file, expected a Parquet file of curves"):
        Curves.read(tmp_path / "nowhere")
    file.write_text("no table")
    with pytest.raises(InputError, match="expected a Parquet file"):
        Curves.read(file)


ROWS = made_curves.setting(configs=3, seeds=1, epochs=2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS.drop(columns="test_loss"), "found no column test_loss, expected the columns of"),
        (ROWS.iloc[:0], "curves: found no rows, expected learning curves"),
        (ROWS.assign(regime="odd"), "curves.regime: found odd, expected lazy or rich"),
        (ROWS.assign(data="some"), "curves.data: found some, expected all or training"),
        (pd.concat([ROWS, ROWS.iloc[:1]]), "found two rows of {'setting': 'net'"),
        (ROWS.iloc[1:], "curves of net: found gaps in model .*, expected each epoch from 1 to 2"),
        (ROWS.loc[ROWS["data"] == "all"], "found no model on the training examples"),
        (ROWS.assign(epoch_seconds=0.0), "found no positive epoch_seconds"),
        (
            ROWS.assign(regime=["lazy", *["rich"] * (len(ROWS) - 1)]),
            "curves of net: found two regimes, expected one",
        ),
    ],
)
def test_what_cannot_be_replayed_is_refused(rows: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Curves(rows)


def test_arms_are_the_reference_and_all_others_on_both_kinds_of_data() -> None:
    (table,) = Curves(ROWS).tables()
    found = arms(table, ("tic",))
    assert found[0] == REFERENCE
    assert found[1] == REFIT
    assert [arm.label for arm in found[2:]] == [
        *("training loss", "tic", "tic (bounded)", "epochs × learning rate", "random", "oracle"),
        *("training loss, all data", "tic, all data", "tic (bounded), all data"),
        "epochs × learning rate, all data",
        *("random, all data", "oracle, all data"),
    ]
    (alone,) = Curves(ROWS.loc[ROWS["data"] == "training"]).tables()
    assert len(arms(alone, ("tic",))) == 7


def test_what_each_arm_sees() -> None:
    rows = ROWS.copy()
    lost = (rows["config"] == "c001") & (rows["data"] == "training") & (rows["epoch"] == 2)
    rows.loc[lost, made_curves.SMALL] = np.nan
    (table,) = Curves(rows).tables()
    own = table.columns["training"]
    np.testing.assert_array_equal(values(table, REFERENCE), own["validation_loss"])
    np.testing.assert_array_equal(values(table, REFIT), own["validation_loss"])
    np.testing.assert_array_equal(values(table, Arm(TRAINING, "training")), own["train_loss"])
    np.testing.assert_array_equal(values(table, Arm(TIME, "training")), -own["training_time"])
    gap = own["tic"] - own["train_loss"]
    half_way = values(table, Arm("tic (bounded)", "training")) - own["train_loss"]
    np.testing.assert_allclose(half_way, gap / (1 + np.abs(gap)))
    for arm in (Arm("tic", "all"), Arm("tic (bounded)", "all")):
        np.testing.assert_array_equal(look_cost(table, arm), look_cost(table, Arm("tic", "all")))
    oracle = values(table, Arm(ORACLE, "training"))
    np.testing.assert_array_equal(oracle[1], np.inf)
    np.testing.assert_array_equal(oracle[0], own["test_loss"][0, :, -1:].repeat(2, axis=1))
    order = draw_order(table, 0, trials=3, seed=0)
    seen = View(table, Arm(TRAINING, "training"), seed=0).along(order)
    assert list(seen.diverged[list(order.configs).index(1)]) == [False, True]


def test_test_examples_are_seen_by_the_oracle_alone() -> None:
    noise = np.random.default_rng(0).normal(size=(2, len(ROWS)))
    (table,) = Curves(ROWS).tables()
    (other,) = Curves(ROWS.assign(test_loss=noise[0], test_error=noise[1])).tables()
    order = draw_order(table, 0, trials=3, seed=0)
    for arm in arms(table, ("tic",)):
        one, two = (View(each, arm, seed=0).along(order) for each in (table, other))
        same = np.array_equal(one.signal, two.signal)
        assert same is (arm.signal != ORACLE)


def test_orders_are_those_of_the_seed_and_draw_each_configuration_once() -> None:
    (table,) = Curves(made_curves.setting(configs=12, seeds=3, epochs=2)).tables()
    order = draw_order(table, 5, trials=8, seed=1)
    again = draw_order(table, 5, trials=8, seed=1)
    np.testing.assert_array_equal(order.configs, again.configs)
    np.testing.assert_array_equal(order.seeds, again.seeds)
    assert len(set(order.configs)) == 8
    assert set(order.seeds) <= {0, 1, 2}
    assert not np.array_equal(order.configs, draw_order(table, 6, trials=8, seed=1).configs)
    assert len(draw_order(table, 0, trials=99, seed=1).configs) == 12


def test_models_that_are_missing_on_one_kind_of_data_are_not_drawn() -> None:
    rows = made_curves.setting(configs=4, seeds=2, epochs=2)
    gone = (rows["config"] == "c001") & (rows["data"] == "all")
    partly = (rows["config"] == "c002") & (rows["data"] == "training") & (rows["seed"] == 0)
    (table,) = Curves(rows.loc[~(gone | partly)]).tables()
    orders = [draw_order(table, number, trials=9, seed=0) for number in range(20)]
    assert {config for order in orders for config in order.configs} == {0, 2, 3}
    drawn = {
        s for order in orders for c, s in zip(order.configs, order.seeds, strict=True) if c == 2
    }
    assert drawn == {1}


def test_random_signals_differ_between_orders_and_not_between_runs() -> None:
    (table,) = Curves(ROWS).tables()
    view = View(table, Arm(RANDOM, "all"), seed=0)
    one, two = (draw_order(table, number, trials=3, seed=0) for number in (0, 1))
    np.testing.assert_array_equal(view.along(one).signal, view.along(one).signal)
    assert not np.array_equal(view.along(one).signal, view.along(two).signal)
    other = View(table, Arm(RANDOM, "training"), seed=0)
    assert not np.array_equal(view.along(one).signal, other.along(one).signal)


def test_looks_can_be_free() -> None:
    (table,) = Curves(ROWS).tables()
    order = draw_order(table, 0, trials=3, seed=0)
    for charged, cost in ((True, 0.1), (False, 0.0)):
        seen = View(table, REFERENCE, seed=0, charged=charged).along(order)
        np.testing.assert_allclose(seen.look_cost, cost)
        np.testing.assert_allclose(seen.epoch_cost, 1.0)


def test_regret_is_measured_from_the_best_model_on_any_data() -> None:
    (table,) = Curves(ROWS).tables()
    order = draw_order(table, 0, trials=3, seed=0)
    one, two = (Truth.of(table, Arm("tic", kind), order) for kind in ("training", "all"))
    assert one.best == two.best
    assert one.best["test_loss"] == two.final["test_loss"].min()
    assert one.final["test_loss"].min() > one.best["test_loss"]
    assert one.blind == two.blind
    assert one.blind["test_loss"] == np.median(one.final["test_loss"])


def test_a_choice_trained_again_is_held_to_what_it_is_then_and_pays_for_it() -> None:
    (table,) = Curves(ROWS).tables()
    order = draw_order(table, 0, trials=3, seed=0)
    seen = View(table, REFIT, seed=0).along(order)
    again = table.horizon * table.cost("all", "epoch_seconds")[order.configs]
    np.testing.assert_array_equal(seen.refit_cost, again)
    assert (again > 0).all()
    np.testing.assert_array_equal(View(table, REFERENCE, seed=0).along(order).refit_cost, 0)
    assert (REFIT.data, REFIT.final_data, REFERENCE.final_data) == ("training", "all", "training")


def test_a_choice_that_diverges_when_trained_again_stays_as_it_was() -> None:
    rows = ROWS.copy()
    lost = (rows["config"] == "c001") & (rows["data"] == "all") & (rows["epoch"] == 2)
    rows.loc[lost, made_curves.SMALL] = np.nan
    (table,) = Curves(rows).tables()
    order = draw_order(table, 0, trials=3, seed=0)
    found, all_data = (Truth.of(table, arm, order).final for arm in (REFIT, Arm("tic", "all")))
    place = list(order.configs).index(1)
    for target in ("test_loss", "test_error"):
        assert np.isnan(all_data[target][place])
        before = table.columns["training"][target][1, order.seeds[place], -1]
        assert found[target][place] == before
        kept = np.arange(3) != place
        np.testing.assert_array_equal(found[target][kept], all_data[target][kept])
