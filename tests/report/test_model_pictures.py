"""Portraits of a study's models on its page, drawn from their weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from html_page import Page

from gentheory.errors import InputError
from gentheory.report import write_report
from gentheory.study.spec import parse
from gentheory.study.store import Store
from gentheory.study.tables import read_tables

FAST: Any = {"num_resamples": 20}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    grid = {"learning_rate": [0.01, 0.02, 0.05, 0.1, 0.2], "seed": [0]}
    training = tiny.training(checkpoints=[0, 1, 2])
    measures = {"names": ["norms.distance", "norms.parameters"]}
    raw = tiny.study(grid=grid, training=training, measures=measures)
    return tiny.done(tmp_path_factory.mktemp("study") / "out", raw)


def page(store: Store, out: Path, *figures: dict[str, Any]) -> Page:
    raw = store.study.model_dump(mode="json") | {"report": {"figures": list(figures)}}
    again = Store.create(store.path, parse(raw, place="test"))
    return Page(write_report(read_tables(again), out, **FAST).path.read_text("utf-8"))


def test_one_model_is_drawn_from_its_weights(store: Store, tmp_path: Path) -> None:
    where = {"learning_rate": [0.2]}
    figures = (
        {"kind": "landscape", "where": where, "options": {"points": 5, "max_examples": 20}},
        {"kind": "correlations"},
    )
    found = page(store, tmp_path, *figures)
    assert found.open == []
    assert "Of net on digits, seed 0." in found.text
    assert len(found.all("script")) >= 1
    assert "The same as a surface." in found.text
    names = {path.name for path in tmp_path.glob("figures/*.svg")}
    assert "correlations_2.svg" in names
    assert len([name for name in names if name.endswith("_1.svg")]) == 2
    json.loads((tmp_path / "results.json").read_text())


def test_without_such_figures_there_is_no_script(store: Store, tmp_path: Path) -> None:
    assert page(store, tmp_path, {"kind": "correlations"}).all("script") == []


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"kind": "kernel", "options": {"points": 3}}, r"'points', expected one of max_examples"),
        ({"kind": "kernel", "options": {"seed": 3}}, r"'seed', expected one of max_examples"),
        ({"kind": "kernel", "where": {"learning_rate": [7]}}, "no model, expected a model to dra"),
        ({"kind": "correlations", "options": {"k": 1}}, "correlations are of all models"),
        ({"kind": "gap"}, r"report\.figures\[0\]\.kind = \"gap\" \(Input should be 'landscape'"),
        ({"quantities": ["norms.distance"]}, r"report\.figures\[0\]\.title \(Field required\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    store: Store, tmp_path: Path, figure: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        page(store, tmp_path / "out", figure)
