import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import tiny
from scipy.stats import qmc

from gentheory.errors import InputError
from gentheory.study import plan
from gentheory.study.draws import WholeRange
from gentheory.study.plan import Point
from gentheory.study.spec import Study, parse

LOG = {"low": 1e-4, "high": 1.0, "scale": "log"}
SHARE = {"low": 0.0, "high": 0.9}
WIDE = tiny.net(label="wide", options={"depth": 2, "width": 5})


def study(**sections: Any) -> Study:
    return parse(tiny.study(**{"grid": {}, **sections}), place="it")


def drawn(count: int, **draws: Any) -> list[Point]:
    return plan.points(study(draws={"count": count, **draws}))


def column(points: list[Point], name: str) -> list[Any]:
    by_draw = sorted(points, key=lambda point: (point.draw or 0, point.settings["seed"]))
    return [point.settings[name] for point in by_draw]


@pytest.mark.parametrize("method", ["random", "sobol", "halton"])
def test_any_setting_can_be_drawn(method: str) -> None:
    points = drawn(
        200,
        method=method,
        learning_rate=LOG,
        batch_size={"low": 3, "high": 6},
        epochs={"low": 1, "high": 8, "scale": "log"},
        loss=["mse", "cross_entropy"],
        n_train=[30, 60, 90],
        keep_trajectory=[True, False],
    )
    assert len(points) == 200
    rates = np.log10(column(points, "learning_rate"))
    assert (rates >= -4).all()
    assert (rates < 0).all()
    assert 75 <= (rates < -2).sum() <= 125
    sizes = Counter(column(points, "batch_size"))
    assert {type(size) for size in sizes} == {int}
    assert sorted(sizes) == [3, 4, 5, 6]
    assert min(sizes.values()) > 30
    # In the logarithm 1, 2 to 3, and 4 to 7 are as likely as each other; 8 is the rest.
    epochs = Counter(epoch.bit_length() for epoch in column(points, "epochs"))
    assert all(abs(epochs[bits] - 200 * np.log(2) / np.log(9)) < 25 for bits in (1, 2, 3))
    for name, values in (("loss", 2), ("n_train", 3), ("keep_trajectory", 2)):
        found = Counter(column(points, name))
        assert len(found) == values
        assert min(found.values()) > 0.6 * 200 / values


@pytest.mark.parametrize("method", ["random", "sobol", "halton"])
def test_more_draws_keep_the_first_ones_and_the_studys_seed_gives_others(method: str) -> None:
    few, many = (drawn(n, method=method, momentum=SHARE, learning_rate=LOG) for n in (5, 21))
    assert column(few, "momentum") == column(many, "momentum")[:5]
    assert len(set(column(many, "momentum"))) == 21
    draws = {"count": 5, "method": method, "momentum": SHARE}
    other = plan.points(study(seed=1, draws=draws))
    assert not set(column(other, "momentum")) & set(column(drawn(**draws), "momentum"))


def test_at_random_another_axis_keeps_the_values_of_the_first() -> None:
    one, two = (drawn(9, learning_rate=LOG, **more) for more in ({}, {"loss": ["mse"]}))
    assert column(one, "learning_rate") == column(two, "learning_rate")


@pytest.mark.parametrize("method", ["sobol", "halton"])
def test_quasi_random_points_fill_the_square_more_evenly(method: str) -> None:
    def discrepancy(method: str) -> float:
        points = drawn(64, method=method, momentum=SHARE, weight_decay={"low": 0.0, "high": 1.0})
        rows = [np.array(column(points, name)) for name in ("momentum", "weight_decay")]
        return float(qmc.discrepancy(np.stack([rows[0] / 0.9, rows[1]], 1)))

    assert discrepancy(method) < discrepancy("random") / 3


def test_sobol_points_are_balanced_where_the_count_is_a_power_of_two() -> None:
    points = drawn(32, method="sobol", momentum=SHARE, n_train=[30, 60])
    cells = Counter(
        (int(m / 0.9 * 4), n)
        for m, n in zip(column(points, "momentum"), column(points, "n_train"), strict=True)
    )
    assert sorted(cells.values()) == [4] * 8


def test_ends_of_a_range_of_whole_numbers() -> None:
    linear, log = (WholeRange(low=2, high=5, scale=scale) for scale in ("linear", "log"))
    assert [linear.at(q) for q in (0.0, 0.2499, 0.25, 1 - 1e-16)] == [2, 2, 3, 5]
    assert [log.at(q) for q in (0.0, 1 - 1e-16)] == [2, 5]


def test_repeats_of_a_draw_differ_in_their_seeds_only() -> None:
    points = drawn(4, momentum=SHARE, repeats=3)
    assert column(points, "seed") == list(range(12))
    for _, group in itertools.groupby(points, key=lambda point: point.draw):
        assert len({p.settings["momentum"] for p in group}) == 1
    assert column(drawn(4, momentum=SHARE), "momentum") == column(points, "momentum")[::3]


def test_seeds_can_be_drawn() -> None:
    seeds = column(drawn(50, seed={"low": 0, "high": 10**6}), "seed")
    assert len(set(seeds)) == 50
    assert max(seeds) > 500_000


def test_an_axis_that_only_some_models_have() -> None:
    found = plan.points(
        study(
            grid={"loss": ["cross_entropy", "mse"], "momentum": [0.0, 0.5, 0.9], "seed": [0, 1]},
            training=tiny.training(momentum=0.25),
            conditions=[{"axes": ["momentum"], "when": {"loss": ["mse"]}}],
        )
    )
    by_loss = Counter((p.settings["loss"], p.settings["momentum"]) for p in found)
    assert by_loss == {
        ("cross_entropy", 0.25): 2,
        ("mse", 0.0): 2,
        ("mse", 0.5): 2,
        ("mse", 0.9): 2,
    }
    assert len({p.id for p in found}) == len(found) == 8


def test_conditions_follow_one_another_and_name_architectures() -> None:
    found = plan.points(
        study(
            architectures=[tiny.net(), WIDE],
            grid={"loss": ["cross_entropy", "mse"], "momentum": [0.0, 0.9], "n_train": [30, 60]},
            conditions=[
                {"axes": ["loss"], "when": {"architecture": ["wide"]}},
                {"axes": ["momentum"], "when": {"loss": ["mse"], "n_train": [30]}},
            ],
        )
    )
    names = ("loss", "momentum", "n_train")
    rows = {(p.architecture, *(p.settings[name] for name in names)) for p in found}
    ce = "cross_entropy"
    assert rows == {
        ("net", ce, 0.0, 30),
        ("net", ce, 0.0, 60),
        ("wide", ce, 0.0, 30),
        ("wide", ce, 0.0, 60),
        ("wide", "mse", 0.0, 30),
        ("wide", "mse", 0.9, 30),
        ("wide", "mse", 0.0, 60),
    }
    assert len(found) == len(rows)


def test_draws_that_come_to_the_same_model_train_it_once() -> None:
    found = plan.points(
        study(
            grid={"loss": ["cross_entropy", "mse"], "seed": [3]},
            draws={"count": 5, "momentum": SHARE},
            conditions=[{"axes": ["momentum"], "when": {"loss": ["mse"]}}],
        )
    )
    assert Counter(p.settings["loss"] for p in found) == {"cross_entropy": 1, "mse": 5}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"method": "sobl"}, "draws.method = \"sobl\" \\(Input should be 'random', 'sobol' or"),
        ({"loss": {"low": 1, "high": 2}}, r"draws\.loss \(Input should be a valid list\)"),
        ({"loss": ["nll"]}, r"draws\.loss\[0\] = \"nll\" \(Input should be 'cross_entropy', "),
        ({"loss": []}, "loss: give at least one value, and each once"),
        ({"n_train": [30, 30]}, "n_train: give at least one value, and each once"),
        ({"batch_size": {"low": 1.5, "high": 4}}, r"draws\.batch_size\.low = 1\.5 \(Input should"),
        ({"batch_size": {"low": 0, "high": 4}}, r"draws\.batch_size = 0 \(Input should be greater"),
        ({"batch_size": 3}, r"draws\.batch_size = 3 \(Input should be .*(dictionary|Range)"),
        ({"momentum": [0.5, 1.5]}, r"draws\.momentum\[1\] = 1\.5 \(Input should be less than 1"),
        ({"repeats": 0}, r"draws\.repeats = 0 \(Input should be greater than or equal to 1"),
        ({"repeats": 2, "seed": [1, 2]}, "repeats give each draw seeds of its own; drop it or"),
        ({"rate": [1]}, r"draws\.rate = \[1\] \(unknown key; remove it or correct its name"),
    ],
)
def test_what_cannot_be_drawn(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        study(draws={"count": 2, **sections})


def test_seeds_come_from_the_grid_or_from_repeats() -> None:
    with pytest.raises(InputError, match=r"draws\.repeats give seeds, and so does grid\.seed"):
        study(grid={"seed": [0, 1]}, draws={"count": 2, "momentum": SHARE, "repeats": 2})


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"axes": ["seed"]}, r"conditions\[0\]\.when \(Field required\)"),
        ({"axes": [], "when": {"loss": ["mse"]}}, r"conditions\[0\]\.axes = \[\] \(List should"),
        ({"axes": ["seed"], "when": {}}, "when: no key holds everywhere; name an architecture or"),
        ({"axes": ["loss"], "when": {"loss": ["mse"]}}, r"\['loss'\] stand in both axes and when"),
        (
            {"axes": ["dtype"], "when": {"loss": ["mse"]}},
            r"conditions\[0\]\.axes: 'dtype' is no axis among \['loss', 'momentum'\]",
        ),
        (
            {"axes": ["momentum"], "when": {"seed": [1]}},
            r"conditions\[0\]\.when: 'seed' is no list among \['loss', 'architecture'\]",
        ),
        (
            {"axes": ["loss"], "when": {"momentum": [0.5]}},
            r"conditions\[0\]\.when: 'momentum' is no list among",
        ),
        (
            {"axes": ["momentum"], "when": {"architecture": ["nett"]}},
            r"conditions\[0\]\.when\.architecture: 'nett' is not among \['net'\]; correct it",
        ),
        (
            {"axes": ["momentum"], "when": {"loss": ["nll"]}},
            r"conditions\[0\]\.when\.loss\[0\] = \"nll\" \(Input should be",
        ),
        ({"axes": ["momentum"], "when": {"los": ["mse"]}}, r"when\.los = .* \(unknown key"),
    ],
)
def test_what_is_no_condition(condition: dict[str, Any], message: str) -> None:
    grid = {"loss": ["cross_entropy", "mse"]}
    with pytest.raises(InputError, match=message):
        study(grid=grid, draws={"count": 2, "momentum": SHARE}, conditions=[condition])


def test_a_study_with_draws_and_conditions_is_written_and_read_again() -> None:
    draws = {"count": 2, "momentum": SHARE, "batch_size": {"low": 1, "high": 9}, "n_train": [9, 8]}
    one = study(
        grid={"loss": ["mse"]},
        draws=draws,
        conditions=[{"axes": ["momentum"], "when": {"loss": ["mse"]}}],
    )
    assert parse(one.model_dump(mode="json"), place="again") == one


def test_checkpoints_are_within_the_fewest_epochs_that_are_drawn() -> None:
    training = tiny.training(checkpoints=[3], epochs=5)
    draws = {"count": 2, "epochs": {"low": 2, "high": 9}}
    with pytest.raises(InputError, match=r"training\.checkpoints: 3 is beyond epoch 2; drop it"):
        study(training=training, draws=draws)
    study(training=training, draws={**draws, "epochs": {"low": 3, "high": 9}})
    conditional = {
        "grid": {"loss": ["mse", "cross_entropy"], "epochs": [5, 6]},
        "conditions": [{"axes": ["epochs"], "when": {"loss": ["mse"]}}],
    }
    study(training=training, **conditional)
    with pytest.raises(InputError, match=r"training\.checkpoints: 3 is beyond epoch 2; drop it"):
        study(training={**training, "epochs": 2}, **conditional)
