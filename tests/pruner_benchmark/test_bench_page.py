import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import made_curves
import numpy as np
import pytest
import tiny

from gentheory.pruner_benchmark import page as page_module
from gentheory.pruner_benchmark.benchmark import Design, Outcome, bench
from gentheory.pruner_benchmark.drawings import drawings
from gentheory.pruner_benchmark.findings import Found, beyond, sentences, standing
from gentheory.pruner_benchmark.grids import saving_grids, setting_grids, standing_grids, tau_grids
from gentheory.pruner_benchmark.page import Page, compared, write_page

VOID = {"meta", "link", "img", "source", "br"}


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    curves = made_curves.two_settings(configs=10, seeds=1, epochs=3)
    return bench(curves, Design(orders=3, trials=6, workers=(1, 4), resamples=30))


@pytest.fixture(scope="module")
def found(outcome: Outcome) -> Found:
    return compared(outcome)


@pytest.fixture(scope="module")
def page(outcome: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return write_page(outcome, {"curves": "<made up>"}, tmp_path_factory.mktemp("pruners"))


@pytest.mark.parametrize(("charged", "word"), [(True, "includes"), (False, "leaves out")])
def test_captions_say_whether_looks_cost(found: Found, charged: bool, word: str) -> None:
    captions = [drawn.caption for drawn in drawings(replace(found, charged=charged))]
    told = [caption for caption in captions if "The budget " in caption]
    assert len(told) == 3  # Of both regimes, and one of each.
    assert all(caption.endswith(f"The budget {word} what the signals cost.") for caption in told)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [str(named["id"])] if "id" in named else []
        self.links += [str(named[key]) for key in ("href", "src", "srcset") if key in named]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_other_file(page: Page) -> None:
    text = page.path.read_text("utf-8")
    tags = Tags(text)
    assert tags.open == []
    assert len(tags.ids) == len(set(tags.ids))
    inside = {link[1:] for link in tags.links if link.startswith("#")}
    assert inside <= set(tags.ids)
    beside = [link for link in tags.links if not link.startswith(("#", "data:"))]
    assert all((page.path.parent / link).is_file() for link in beside)
    assert "&lt;made up&gt;" in text
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", text))


def test_the_numbers_beside_the_page(page: Page, found: Found) -> None:
    results = json.loads((page.path.parent / "results.json").read_text("utf-8"))
    assert results["findings"] == list(page.findings)
    assert {"orders", "trials", "commit", "machine", "versions"} <= set(results["provenance"])
    assert "optuna" in results["provenance"]["versions"]
    table = results["differences"]
    assert table["labels"] == ["scope", "base", "workers", "arm", "rival", "metric"]
    row = found.differences.iloc[0]
    place = table["rows"]
    for label in table["labels"]:
        place = place[str(row[label])]
    value = place[table["numbers"].index("difference")]
    assert value == pytest.approx(row["difference"], rel=1e-4)
    curve = results["curves"]["rows"]["wide"]["Nop"]["1"]["oracle"]["test_loss"]
    assert [len(column) for column in curve] == [49] * 4


def test_findings_say_where_a_criterion_stands(found: Found) -> None:
    told = sentences(found)
    assert len(told) == 18
    assert [text.startswith("With the whole budget, ") for text in told[6:9]] == [True, True, False]
    assert "Hyperband, test error: validation loss 0." in told[6]
    assert sum("trained once more on all the data" in text for text in told) == 2
    assert told[0].startswith("Inside the NTK regime (lazy), 1 setting: at equal budget and with")
    assert re.search(r"; tic \(bounded\) (better in \d|not told apart in any) of 4\.$", told[1])
    assert told[2].startswith("Inside the NTK regime (lazy), 1 setting, SuccessiveHalving η 3: ")
    assert told[4].startswith("Outside the NTK regime (rich), 1 setting, SuccessiveHalving η 3")
    for text in told[2:6]:
        assert "with the validation loss" in text
        for words in ("with all the data", "on the same training examples"):
            assert text.count(words) >= 2  # For both targets.
    assert any(
        text.startswith("Kendall's τ with the final test loss after 1 and 3") for text in told
    )


def test_a_verdict_needs_holm_and_the_interval() -> None:
    row = {"holm": 0.01, "difference": -1.0, "difference.low": -2.0, "difference.high": -0.5}
    assert standing(row) == "better"
    assert standing({**row, "holm": 0.2}) == "open"
    assert standing({**row, "holm": float("nan")}) == "open"
    assert standing({**row, "difference.high": 0.1}) == "open"
    worse = {"holm": 0.01, "difference": 1.0, "difference.low": 0.5, "difference.high": 2.0}
    assert standing(worse) == "worse"
    assert beyond({**worse, "bound": 0.4})
    assert not beyond({**worse, "bound": 0.6})


def test_every_table_has_all_its_cells(found: Found) -> None:
    grids = [*standing_grids(found), *setting_grids(found), *tau_grids(found), *saving_grids(found)]
    assert len(grids) == 4 + 20 + 4 + 4
    assert len({grid.name for grid in grids}) == len(grids)
    for grid in grids:
        assert grid.rows
        assert all(len(row) == len(grid.header) for row in grid.rows)
        assert all(np.isfinite(cell.shade) for row in grid.rows for cell in row)


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "drawings", lambda found: [])
    file = tmp_path / "curves.parquet"
    rows = made_curves.setting(configs=16, seeds=1, epochs=3)
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        connection.execute(f"copy (select * from rows) to '{file}' (format parquet)")
    options = ("--orders", 2, "--trials", 4, "--workers", 1, "--configs", "second-half")
    ended = tiny.main(capsys, "bench-pruners", file, "--out", tmp_path / "page", *options)
    assert ended.code == 0
    assert ended.out.startswith("1. Inside the NTK regime (lazy), 1 setting: at equal")
    assert ended.out.splitlines()[-1] == f"Report: {tmp_path / 'page' / 'index.html'}"
    results = json.loads((tmp_path / "page" / "results.json").read_text("utf-8"))
    assert results["provenance"]["configurations"] == "second-half"
    wrong = tiny.main(capsys, "bench-pruners", file, "--out", tmp_path, "--configs", "none")
    assert wrong.code == 2
    assert "configs: found none, expected all or first-half or second-half" in wrong.err
