import math
from pathlib import Path
from typing import Any

import pytest
import tiny

from gentheory.errors import InputError
from gentheory.measures import CHEAP
from gentheory.study import spec
from gentheory.study.draws import Range


def parse(**sections: Any) -> spec.Study:
    return spec.parse(tiny.study(**sections), place="it")


def test_reads_what_the_toml_says(tmp_path: Path) -> None:
    study = spec.read(tiny.write(tmp_path / "s.toml", tiny.study(description="größer: √2")))
    assert study.description == "größer: √2"
    assert study.parts[0].training.epochs == 2
    assert study.parts[0].training.learning_rate == 0.1  # the default, which the grid replaces
    assert study.parts[0].grid.axes() == {"learning_rate": [0.01, 0.1], "seed": [0, 1]}


def test_survives_its_own_json() -> None:
    draws = {"count": 2, "momentum": {"low": 0.0, "high": 0.9}}
    options = {"tic.exact": {"damping": 0.1, "curvature": "fisher"}}
    study = parse(draws=draws, measures={"names": ["tic.exact"], "options": options})
    assert spec.parse(study.model_dump(mode="json"), place="it") == study


def test_every_mistake_is_named_with_its_place() -> None:
    raw = tiny.study(
        stack=0,
        training=tiny.training(epochz=2, momentum=1.0),
        grid={"learning_rate": [0.1, -0.1], "seed": []},
        measures={"names": ["tic.exakt", "norms.distance", "nope"]},
    )
    del raw["title"]
    with pytest.raises(InputError, match=r"^it: found 8 mistakes: ") as caught:
        spec.parse(raw, place="it")
    for mistake in (
        r"title (Field required)",
        r"stack = 0 (Input should be greater than or equal to 1)",
        r"training.epochz = 2 (unknown key; remove it or correct its name)",
        r"training.momentum = 1.0 (Input should be less than 1)",
        r"grid.learning_rate[1] = -0.1 (Input should be greater than 0)",
        r"grid.seed = [] (an empty list leaves no model to train; give at least one value)",
        r"measures.names[0] = \"tic.exakt\" (measure: found 'tic.exakt', expected one of ",
        r"measures.names[2] = \"nope\" (measure: found 'nope', expected one of ",
    ):
        assert mistake.replace("\\", "") in str(caught.value)


@pytest.mark.parametrize("value", ["0.1", True, None, [0.1], math.nan, math.inf])
def test_a_rate_is_a_finite_number_and_nothing_else(value: object) -> None:
    with pytest.raises(InputError, match=r"1 mistake: training\.learning_rate = .*Input should be"):
        parse(training=tiny.training(learning_rate=value))


@pytest.mark.parametrize("value", [1.5, "3", True, 0])
def test_a_count_is_a_whole_number(value: object) -> None:
    with pytest.raises(InputError, match=r"1 mistake: training\.epochs = .*Input should be"):
        parse(training=tiny.training(epochs=value))


@pytest.mark.parametrize("where", ["data", "architectures", "measures"])
def test_an_option_that_is_not_finite_is_refused(where: str) -> None:
    options = {"damping": math.inf}
    sections = {
        "data": {"name": "digits", "options": options},
        "architectures": [tiny.net(options=options)],
        "measures": {"names": ["tic.exact"], "options": {"tic.exact": options}},
    }
    with pytest.raises(InputError, match=rf"1 mistake: {where}.*damping.*finite number"):
        parse(**{where: sections[where]})


def measured(**section: Any) -> dict[str, Any]:
    return {"measures": {"names": ["tic.exact"], **section}}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"measures": {"names": ["tic.exact"] * 2}}, "names: a measure stands twice; give each"),
        ({"architectures": [tiny.net(), tiny.net()]}, r"two share a label in \['net', 'net'\]"),
        ({"architectures": []}, "architectures = .* at least 1 item"),
        (
            {"grid": {"seed": [1, 1]}},
            r"grid\.seed = \[1, 1\] \(a value stands twice; give each once",
        ),
        ({"grid": {"width": [1]}}, r"grid\.width = \[1\] \(unknown key"),
        ({"name": "a/b"}, r'name = "a/b" \(String should match pattern'),
        (
            {"rivals": {"folds": 1}},
            r"rivals\.folds = 1 \(Input should be greater than or equal to 2",
        ),
        (
            {"rivals": {"validation": [1.0]}},
            r"rivals\.validation\[0\] = 1\.0 \(Input should be less",
        ),
        ({"rivals": {"validation": [0.1, 0.1]}}, "a share stands twice; give each once"),
        (measured(held_out=30), "held_out and on_held_out stand together or not at all"),
        (measured(on_held_out=["tic.exact"]), "held_out and on_held_out stand together or not"),
        (measured(held_out=30, on_held_out=["nope"]), "measure: found 'nope', expected one of"),
        (
            measured(
                names=["tic.exact", "tic.exact:held-out"], held_out=3, on_held_out=["tic.exact"]
            ),
            "a measure stands twice",
        ),
        (
            {"report": {"main": "norms.distance"}},
            "main: 'norms.distance' is no predicted gap among",
        ),
        ({"report": {"main": "tic.kernel"}}, "main: 'tic.kernel' is no predicted gap among"),
        (
            {"report": {"development": ["a"]}},
            "report.development = .*Input should be 'checkerboard'",
        ),
        ({"report": {"development": "checkerboard"}}, "one setting cannot be split; drop it"),
        ({"exclude": [{}]}, r"exclude\[0\] \(no key leaves out everything; name an architecture"),
        ({"exclude": [{"sed": 1}]}, r"exclude\[0\]\.sed = 1 \(unknown key"),
        ({"exclude": [{"seed": -1}]}, r"exclude\[0\]\.seed = -1 \(Input should be greater"),
        (
            {"exclude": [{"seed": 0}, {"architecture": "nett"}]},
            r"exclude\[1\]\.architecture: 'nett' is not among \['net'\]; correct it",
        ),
        ({"exclude": [{"seed": 7}]}, r"exclude\[0\]\.seed: 7 is not among \[0, 1\]"),
        (
            {"exclude": [{"seed": 0, "momentum": 0.5}]},
            r"exclude\[0\]\.momentum: 0\.5 is of no axis in \[grid\]",
        ),
        (
            {"exclude": [{"seed": 0}, {"seed": 1}]},
            "exclude: no model is left to train; drop an exclusion",
        ),
    ],
)
def test_what_cannot_be_a_study(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(**sections)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": 0.5, "high": 0.5}, r"draws\.momentum \(low 0\.5 is not below high 0\.5\)"),
        ({"low": 0.0, "high": 0.5, "scale": "log"}, "a logarithmic range starts above 0, not at 0"),
        ({"low": -0.1, "high": 0.5}, r"momentum = -0\.1 \(Input should be greater than or equal"),
        ({"low": 0.1, "high": 1.5}, r"draws\.momentum = 1\.5 \(Input should be less than 1\)"),
        ({"low": 0.1}, r"draws\.momentum\.high \(Field required\)"),
        ({"low": "0", "high": 0.5}, r'draws\.momentum\.low = "0" \(Input should be a valid number'),
    ],
)
def test_ranges_that_cannot_be_drawn_from(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(draws={"count": 2, "momentum": values})


def test_quantiles_of_a_range() -> None:
    linear = Range(low=1.0, high=3.0)
    assert [linear.at(q) for q in (0.0, 0.25, 1.0)] == [1.0, 1.5, 3.0]
    log = Range(low=0.01, high=1.0, scale="log")
    assert log.at(0.5) == pytest.approx(0.1, rel=1e-15)


def test_a_checkerboard_of_settings() -> None:
    """Neighbours along every axis stand on different sides."""
    study = parse(
        architectures=[tiny.net(), tiny.net(label="other")],
        grid={"n_train": [30, 60, 90], "label_noise": [0.0, 0.2]},
        report={"development": "checkerboard"},
    )
    board = {
        (a, n, noise): study.is_development(0, label, size, share)
        for a, label in enumerate(["net", "other"])
        for n, size in enumerate([30, 60, 90])
        for noise, share in enumerate([0.0, 0.2])
    }
    assert all(chosen is (sum(place) % 2 == 0) for place, chosen in board.items())
    assert sum(board.values()) == 6
    assert not parse().is_development(0, "net", 60, 0.0)


def test_shipped_studies_hold() -> None:
    folder = Path(__file__).parents[2] / "studies"
    names = {spec.read(file).name for file in folder.glob("*.toml")}
    assert names == {file.stem for file in folder.glob("*.toml")}
    assert "quickstart" in names


def test_every_scalar_setting_is_an_axis_and_can_be_excluded() -> None:
    study = parse(
        grid={"loss": ["cross_entropy", "mse"], "dtype": ["float32"], "seed": [0, 1]},
        exclude=[{"loss": "mse", "seed": 1}],
    )
    trained = [(axes["loss"], axes["seed"]) for _, axes in study.parts[0].combinations()]
    assert trained == [("cross_entropy", 0), ("mse", 0), ("cross_entropy", 1)]


def test_options_that_vary_make_an_architecture_each() -> None:
    architecture = {
        "label": "net",
        "model": "mlp",
        "options": {"skip": True},
        "vary": {"width": [4, 8], "depth": [2, 3]},
    }
    left_out = {"architecture": "net, width 4, depth 3"}
    study = parse(architectures=[architecture], grid={}, exclude=[left_out])
    trained = {variant.label: variant.options for variant, _ in study.parts[0].combinations()}
    assert trained == {
        "net, width 4, depth 2": {"skip": True, "width": 4, "depth": 2},
        "net, width 8, depth 2": {"skip": True, "width": 8, "depth": 2},
        "net, width 8, depth 3": {"skip": True, "width": 8, "depth": 3},
    }


def test_a_value_that_varies_twice_is_refused() -> None:
    architecture = {"label": "net", "model": "mlp", "vary": {"width": [4, 4]}}
    with pytest.raises(InputError, match=r"vary.*width: a value stands twice"):
        parse(architectures=[architecture], grid={})


def test_cheap_and_families_stand_for_their_measures() -> None:
    names = parse(measures={"names": ["cheap", "margins", "tic.exact"]}).parts[0].measures.names
    assert names[: len(CHEAP)] == list(CHEAP)
    assert {"margins.output", "tic.exact"} <= set(names)
    assert len(set(names)) == len(names)
    assert parse(measures={"names": names}).parts[0].measures.names == names
    with pytest.raises(InputError, match="names: a measure stands twice"):
        parse(measures={"names": ["cheap", "cheap"]})


def test_a_part_takes_what_it_does_not_give_from_the_upper_level() -> None:
    study = parse(
        parts=[
            {"training": {"epochs": 5}, "draws": {"count": 3}},
            {"data": {"name": "mnist"}, "stack": 7, "measures": {"names": ["norms.parameters"]}},
        ],
        training=tiny.training(batch_size=8),
        draws={"count": 2, "momentum": {"low": 0.0, "high": 0.9}},
    )
    first, second = study.parts
    assert (first.data.name, first.stack, first.training.epochs) == ("digits", 2, 5)
    assert (second.data.name, second.stack, second.training.epochs) == ("mnist", 7, 2)
    assert first.training.batch_size == second.training.batch_size == 8
    assert first.draws
    assert second.draws
    assert (first.draws.count, second.draws.count) == (3, 2)
    assert first.draws.momentum == second.draws.momentum is not None
    assert (first.measures.names, second.measures.names) == (
        ["tic.exact", "norms.distance"],
        ["norms.parameters"],
    )
    assert spec.parse(study.model_dump(mode="json"), place="it") == study


def test_a_mistake_in_a_part_is_named_with_its_part() -> None:
    with pytest.raises(InputError, match=r"1 mistake: parts\[1\]\.training\.epochz = 2 \(unknown"):
        parse(parts=[{}, {"training": {"epochz": 2}}])
    with pytest.raises(InputError, match=r"parts = \[\] \(List should have at least 1 item"):
        parse(parts=[])
