import dataclasses
import json
import math
import re

import numpy as np
import pytest
from html_page import Page

from gentheory.errors import InputError
from gentheory.report import findings, write_report

FAST = {"num_resamples": 50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture
def written(study, folder):
    """The report of the study, written once."""
    path = folder / "index.html"
    if not path.exists():
        write_report(study, folder, **FAST)
    return Page(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def crowded(many, tmp_path_factory):
    """The report of many settings, written once."""
    return write_report(many, tmp_path_factory.mktemp("many"), **FAST)


def test_every_tag_is_closed_and_ids_are_unique(written):
    assert written.open == []
    ids = [attributes["id"] for _, attributes in written.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {
        attributes["aria-labelledby"]
        for _, attributes in written.tags
        if "aria-labelledby" in attributes
    }
    anchors = {
        attributes["href"][1:] for attributes in written.all("a") if attributes["href"][0] == "#"
    }
    assert labels | anchors <= set(ids)


def test_the_page_reaches_for_nothing_outside(written, folder):
    text = (folder / "index.html").read_text("utf-8")
    assert "http" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert written.all("script") == []
    sources = [tag["src"] for tag in written.all("img")]
    sources += [tag["srcset"] for tag in written.all("source")]
    assert len(sources) == 6
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)


def test_images_have_words_and_a_size(written):
    for tag in written.all("img"):
        assert len(tag["alt"]) > 20
        assert int(tag["width"]) > 300
        assert int(tag["height"]) > 100
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in written.all(
        "meta"
    )


def test_findings_and_description_are_on_the_page(written, study):
    sentences = findings(study, **FAST)
    assert all(sentence in written.text for sentence in sentences)
    assert written.text.index(sentences[2]) < written.text.index("First paragraph.")
    for words in ("A title", "Second paragraph.", "24 ranked, 1 diverged", "torch 2.13"):
        assert words in written.text
    assert "needs 9 GB, 8 GB are free" in written.text
    assert "e.g. the gradient norm is 0.1" in written.text


def test_a_warning_about_the_main_measure_stands_beside_the_findings(study, written, tmp_path):
    assert "With caution" not in written.text
    rows = study.measures.index[study.measures["measure"] == "tic.exact"][:3]
    study.measures.loc[rows, "warnings"] = '["not at a minimum"]'
    page = Page(write_report(study, tmp_path, **FAST).path.read_text("utf-8"))
    words = "3 of the 25 models carry this warning about their tic.exact: not at a minimum."
    assert page.text.index(words) < page.text.index("How to read this")


def test_every_linked_file_is_there(written, folder):
    links = [tag["href"] for tag in written.all("a") if tag["href"][0] != "#"]
    assert {"results.json", "figures/gap.svg", "figures/training_curves.png"} <= set(links)
    assert all((folder / link).stat().st_size > 100 for link in links)


def test_results_are_strict_json_with_the_numbers_of_the_tables(written, folder, study):
    def refuse(name):
        raise AssertionError(name)

    results = json.loads((folder / "results.json").read_text("utf-8"), parse_constant=refuse)
    assert results["findings"] == findings(study, **FAST)
    rows = {(row["setting"], row["predictor"]): row for row in results["correlations"]}
    assert rows["all models", "minus training loss"]["partial_kendall"] is None
    assert rows["3-NN", "tic.exact"]["count"] == 12
    assert results["provenance"] == study.provenance
    assert [row["gap"] for row in results["models"]][12] is None
    assert results["models"][0]["tic.exact"] == pytest.approx(study.measures["value"].iloc[50])


def test_infinities_and_unknown_values_become_texts(study, tmp_path):
    provenance = {"a": math.inf, "b": np.int64(3), "c": [np.float64(math.nan)], "d": tmp_path}
    changed = dataclasses.replace(study, provenance=provenance)
    write_report(changed, tmp_path, **FAST)
    found = json.loads((tmp_path / "results.json").read_text("utf-8"))["provenance"]
    assert found == {"a": "inf", "b": 3, "c": [None], "d": str(tmp_path)}


def test_text_of_the_study_is_escaped(study, tmp_path):
    evil = "<script>alert(1)</script>"
    study.measures.loc[3, "reason"] = evil
    changed = dataclasses.replace(study, title=evil, description=evil, provenance={evil: evil})
    page = Page(write_report(changed, tmp_path, **FAST).path.read_text("utf-8"))
    assert page.all("script") == []
    assert page.text.count(evil) == 6


def test_the_same_tables_give_the_same_bytes(study, written, folder, tmp_path):
    write_report(study, tmp_path, **FAST)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = {"gap", "correlations", "training_curves"}
    figures = {f"figures/{name}.{suffix}" for name in names for suffix in ("png", "svg")}
    assert {str(path) for path in files} == {"index.html", "results.json"} | figures
    assert all((tmp_path / path).read_bytes() == (folder / path).read_bytes() for path in files)


def test_a_setting_with_few_models_says_so(make_models, make_tables, tmp_path):
    models = make_models(9, architecture=5 * ["a"] + 4 * ["b"])
    report = write_report(make_tables(models, {"tic.exact": models["gap"]}), tmp_path, **FAST)
    page = Page(report.path.read_text("utf-8"))
    assert "too few" in page.texts
    assert len(page.all("img")) == 2


@pytest.mark.parametrize("measure", ["tic.exact", "norms.x"])
def test_a_study_in_which_all_diverged_has_a_page(make_models, make_tables, tmp_path, measure):
    models = make_models(6, outcome="diverged", train_loss=np.nan)
    report = write_report(make_tables(models, {measure: models["gap"]}), tmp_path, **FAST)
    page = Page(report.path.read_text("utf-8"))
    assert "6 models, 0 ranked, 6 diverged" in page.text
    assert page.all("img") == []
    assert len(report.findings) == 3


def test_an_empty_study_writes_nothing(study, tmp_path):
    empty = dataclasses.replace(study, models=study.models.iloc[:0])
    with pytest.raises(InputError, match=r"tables\.models: found an empty table"):
        write_report(empty, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_many_settings_are_heat_maps_and_folded_tables(crowded):
    page = Page(crowded.path.read_text("utf-8"))
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(page.all("details")) == len(page.all("summary")) == 5
    drawn = sorted(file.name for file in crowded.path.parent.glob("figures/heat*.svg"))
    assert drawn == [
        "heat_partial.svg",
        "heat_partial_development.svg",
        "heat_test_loss.svg",
        "heat_test_loss_development.svg",
    ]
    # The findings and all but the last part are about the other five settings.
    text = page.text
    assert "The findings are about 5 settings on which nothing was chosen; the 5 others" in text
    assert "Settings of development On these 5 settings the criterion was chosen" in text
    assert not re.search(r"n [13579]00\b", " ".join(crowded.findings))
    results = json.loads(crowded.path.with_name("results.json").read_text())
    assert {row["rival"] for row in results["rivalry"]} == {"validation:0.1"}
    choice = {row["predictor"]: row for row in results["choices"]}
    assert choice["validation:0.1"]["seconds"] == 2.0
    assert choice["validation:0.1"]["settings"] == 5


def test_every_rival_has_a_table_of_pairs(crowded):
    text = crowded.path.read_text("utf-8")
    assert text.count('id="rival-0-difference"') == 1
    assert text.count('id="development-rival-0-difference"') == 1
    assert "Lead over validation:0.1" in text


def test_tables_of_development_stand_in_their_own_part(crowded):
    text = crowded.path.read_text("utf-8")
    before, after = text.split('<h2 id="development">')
    own, later = after.split("</section>", 1)
    head = "n\N{NO-BREAK SPACE}%d<small>"
    assert head % 200 in before
    assert head % 100 not in before
    assert head % 100 in own
    assert head % 200 not in own
    assert head % 100 not in later


def test_few_settings_stand_open(written):
    assert written.all("details") == []
    assert "Settings of development" not in written.text
