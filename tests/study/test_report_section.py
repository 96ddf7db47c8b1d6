"""What a study's file says of its page: claims on quantities, figures, and their mistakes."""

from pathlib import Path
from typing import Any

import pytest
import tiny

from gentheory.errors import InputError
from gentheory.study import spec
from gentheory.study.claim import Claim, Statement
from gentheory.study.figure import CourseFigure, ModelFigure

ALONG = {"names": ["tic.exact", "norms.distance"], "along": ["norms.distance"]}
CLAIM = {"says": "it is so", "quantity": "norms.distance", "above": 0.0}
FIGURE = {"title": "It", "quantities": ["norms.distance", "gap"]}
STUDIES = Path(__file__).parents[2] / "studies"


def parse(report: dict[str, Any], **sections: Any) -> spec.Study:
    along = {"measures": ALONG, "training": tiny.training(checkpoints=[0, 1, 2])}
    return spec.parse(tiny.study(report=report, **{**along, **sections}), place="it")


def test_claims_and_figures_of_both_kinds_are_told_apart() -> None:
    report = {
        "about": "claims",
        "claims": [CLAIM, {"says": "it ranks", "predictor": "tic.exact", "above": 0.0}],
        "figures": [FIGURE, {"kind": "kernel", "where": {"seed": [0]}}],
    }
    study = parse(report)
    assert [type(claim) for claim in study.report.claims] == [Statement, Claim]
    assert [type(figure) for figure in study.report.figures] == [CourseFigure, ModelFigure]
    assert spec.parse(study.model_dump(mode="json"), place="it") == study


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"claims": [{**CLAIM, "quantity": "collapse.nc1"}]}, r"report.claims: 'collapse.nc1' is"),
        (
            {"claims": [{**CLAIM, "against": {"quantity": "tic.kfac"}}]},
            r"report.claims: 'tic.kfac' is not among",
        ),
        (
            {"claims": [{**CLAIM, "quantity": "tic.exact", "statistic": "change"}]},
            r"'tic.exact' is not among measures.along \['norms.distance'\]; add it there",
        ),
        ({"claims": [{**CLAIM, "statistic": "rise"}]}, r"report.claims\[0\].statistic = \"rise\""),
        ({"claims": [{**CLAIM, "start": -1}]}, r"report.claims\[0\].start.*greater than or equal"),
        ({"claims": [{**CLAIM, "predictr": "x"}]}, r"claims\[0\].predictr = .*unknown key"),
        (
            {"figures": [{**FIGURE, "quantities": ["tic.exact"]}]},
            r"'tic.exact' is not among measures.along",
        ),
        ({"figures": [{**FIGURE, "quantities": ["colour"]}]}, "'colour' is neither a measure nor"),
        ({"figures": [{**FIGURE, "series": "seed"}]}, 'let panel or series be "quantity"'),
        ({"figures": [{**FIGURE, "panel": "quantity"}]}, "panel and series are both 'quantity'"),
        ({"figures": [{**FIGURE, "limits": [1.0, 0.0]}]}, r"limits: 1.0 is not below 0.0"),
        ({"figures": [{**FIGURE, "quantities": ["gap", "gap"]}]}, "quantities: one stands twice"),
        ({"about": "claims"}, "about: there are no claims; add claims or figures"),
        (
            {"about": "claims", "claims": [CLAIM], "main": "tic.exact"},
            "main: a page about claims shows none; drop it",
        ),
    ],
)
def test_mistakes_are_named(report: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(report)


def test_a_course_needs_checkpoints() -> None:
    plain = {"measures": {"names": ["norms.distance"]}, "training": tiny.training()}
    assert parse({"claims": [CLAIM]}, **plain).report.claims
    for report in ({"claims": [{**CLAIM, "end": 1}]}, {"figures": [FIGURE]}):
        with pytest.raises(InputError, match=r"report: no training.checkpoints to look at"):
            parse(report, **plain)


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_study_of_the_house_holds(file: Path) -> None:
    study = spec.read(file)
    assert study.name == file.stem
    for claim in study.report.claims:
        assert claim.source
