"""The page of a study about claims, which has no predicted gap and ranks none."""

import dataclasses
import json

import pytest
from html_page import Page

from gentheory.errors import InputError
from gentheory.report import write_report
from gentheory.study.claim import Statement
from gentheory.study.figure import CourseFigure

FAST = {"num_resamples": 50}
FINDINGS = (
    "3 claims: 1 agrees with what was measured, 1 disagrees, 1 is undecided.",
    "Agrees: NC1 falls more than tenfold after zero training error: ",
    "Disagrees: It ends above ten: ",
    "Undecided: It is lower with cross-entropy: ",
)


@pytest.fixture
def report(claimed, tmp_path):
    return write_report(claimed, tmp_path, **FAST)


def test_findings_are_the_verdicts_with_their_numbers(report):
    assert len(report.findings) == len(FINDINGS)
    for finding, start in zip(report.findings, FINDINGS, strict=True):
        assert finding.startswith(start)
    assert report.findings[1].endswith(", expected above 10.")
    assert "[" in report.findings[1]


def test_the_page_has_claims_figures_and_what_was_measured(report):
    page = Page(report.path.read_text("utf-8"))
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {tag["href"][1:] for tag in page.all("a") if tag["href"][0] == "#"}
    assert anchors <= set(ids)
    assert all(finding in page.text for finding in report.findings)
    for words in (
        "10 models, 5 seeds",
        "Papyan, Han & Donoho 2020",
        "It does not.",
        "loss cross_entropy",
        "NC1 along training",
        "Every measure has a number for every model.",
    ):
        assert words in page.text
    for words in ("ranks the generalization gap", "predicted gap", "trivial baselines"):
        assert words not in page.text
    assert len(page.all("img")) == 3
    assert all(tag["src"].startswith("data:") for tag in page.all("img"))


def test_the_numbers_of_the_page_are_in_its_json(report):
    results = json.loads(report.path.with_name("results.json").read_text())
    assert [row["verdict"] for row in results["claims"]] == ["agrees", "disagrees", "undecided"]
    assert {row["series"] for row in results["course_1"]} == {"cross_entropy", "mse"}
    assert {row["panel"] for row in results["course_2"]} == {"cross_entropy", "mse"}
    first = [row for row in results["course_2"] if row["series"] == "train loss"]
    assert [row["value"] for row in first[:4]] == pytest.approx([2, 1, 2 / 3, 0.4])
    measured = {(row["configuration"], row["quantity"]) for row in results["configurations"]}
    assert ("loss mse", "collapse.nc1") in measured
    assert ("loss mse", "train_accuracy") in measured


def test_a_configuration_of_a_part_is_told_by_what_varies_there(claimed, tmp_path):
    part = [0] * 5 + [1] * 5  # the loss varies between the parts alone
    rate = [0.1] * 5 + [0.1, 0.1, 0.1, 0.2, 0.2]
    tables = dataclasses.replace(claimed, models=claimed.models.assign(part=part, momentum=rate))
    path = write_report(tables, tmp_path, **FAST).path.with_name("results.json")
    rows = json.loads(path.read_text())["configurations"]
    called = {row["configuration"]: row["models"] for row in rows}
    assert called == {"part 0": 5, "part 1, momentum 0.1": 3, "part 1, momentum 0.2": 2}


def test_files_are_there_and_the_same_each_time(report, claimed, tmp_path):
    again = write_report(claimed, tmp_path / "again", **FAST).path.parent
    files = {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    names = {"course_1", "course_2", "training_curves"}
    figures = {f"figures/{name}.{suffix}" for name in names for suffix in ("png", "svg")}
    assert {str(path) for path in files} == {"index.html", "results.json"} | figures
    assert all((again / p).read_bytes() == (report.path.parent / p).read_bytes() for p in files)


def test_numbers_rise_and_words_stand_as_in_the_study(claimed, tmp_path):
    drawing = CourseFigure(title="It", quantities=["gap"], series="seed", panel="loss")
    upside_down = claimed.models.iloc[::-1].reset_index(drop=True)
    tables = dataclasses.replace(claimed, figures=(drawing,), models=upside_down)
    path = write_report(tables, tmp_path, **FAST).path.with_name("results.json")
    rows = json.loads(path.read_text())["course_1"]
    assert list(dict.fromkeys(row["panel"] for row in rows)) == ["mse", "cross_entropy"]
    assert list(dict.fromkeys(row["series"] for row in rows)) == [f"seed {n}" for n in range(5)]


def test_a_claim_without_a_number_has_a_row_that_says_why(claimed, tmp_path):
    course = {"statistic": "first_below", "level": 1e-9}
    never = Statement(says="It vanishes", quantity="collapse.nc1", **course, below=5.0)
    report = write_report(dataclasses.replace(claimed, claims=(never,)), tmp_path, **FAST)
    assert report.findings[1] == "No number: It vanishes: undefined, expected below 5."
    assert "10 of 10 models never come to 1e-09" in report.path.read_text("utf-8")


def test_a_page_about_the_gap_shows_such_figures_too(claimed, tmp_path):
    path = write_report(dataclasses.replace(claimed, about="gap"), tmp_path, **FAST).path
    text = Page(path.read_text("utf-8")).text
    assert text.index("Along training") < text.index("NC1 along training.")
    assert "What ranks the generalization gap" in text


def test_a_study_of_figures_alone_says_that_it_decides_nothing(claimed, tmp_path):
    report = write_report(dataclasses.replace(claimed, claims=()), tmp_path, **FAST)
    assert report.findings == ("The study measures and draws; it decides on no claim.",)
    assert 'id="claims-section"' not in report.path.read_text("utf-8")


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        ({"quantities": ["collapse.nc9"]}, r"'collapse.nc9' along training, expected one of"),
        ({"quantities": ["gap"], "series": "colour"}, r"report.figures: found 'colour'"),
        ({"quantities": ["gap"], "where": {"loss": ["hinge"]}}, "no model in 'It'"),
    ],
)
def test_figures_of_what_there_is_not_are_refused(claimed, tmp_path, drawing, message):
    tables = dataclasses.replace(claimed, figures=(CourseFigure(title="It", **drawing),))
    with pytest.raises(InputError, match=message):
        write_report(tables, tmp_path, **FAST)
    assert list(tmp_path.iterdir()) == []
