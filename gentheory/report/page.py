"""The page: one self-contained HTML file, beside it the figures and all numbers as JSON."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gentheory.plots.export import write
from gentheory.plots.surface import script
from gentheory.report import claims_page
from gentheory.report.along import in_words
from gentheory.report.analysis import Analysis, analyse
from gentheory.report.axis_grids import axis_grids, trend_grid
from gentheory.report.axis_pictures import axis_pictures
from gentheory.report.claim_grids import claim_grid
from gentheory.report.course_pictures import course_pictures
from gentheory.report.findings import sentences
from gentheory.report.grids import (
    along_grids,
    choice_grid,
    correlation_grids,
    criterion_grids,
    ladder_grids,
    regime_grid,
    rival_grids,
    setting_grid,
    size_grid,
)
from gentheory.report.missing import missing_grids
from gentheory.report.model_pictures import model_pictures
from gentheory.report.pictures import Content, Picture, pictures
from gentheory.report.plain import as_json, plain, said, words
from gentheory.report.population import MANY_SETTINGS
from gentheory.report.ranking import Resampling
from gentheory.report.shift_words import shift_grids, shift_sentences
from gentheory.report.templates import style, template
from gentheory.study.tables import Tables

_WHOLE = re.compile(r"(\[[^\]]*\]|\b\d+-\w+)")
"""What must not break across lines in a finding: intervals, and names such as 3-LNN."""


@dataclass(frozen=True)
class Report:
    """What was written."""

    path: Path
    """The page, `index.html`; beside it `results.json` and the folder `figures`."""
    findings: tuple[str, ...]
    """The sentences at the top of the page."""


def write_report(tables: Tables, out: Path, *, num_resamples: int = 1000, seed: int = 0) -> Report:
    """Write the report of a study into the folder `out`, which is made where it is missing.

    `index.html` needs no other file and no network; `figures/` has each figure as SVG and PNG,
    `results.json` every table. `num_resamples` and `seed` are those of the bootstrap: the same
    tables give the same bytes. Each file is replaced in one step, the page last. Raises
    `InputError` for tables without a model, a measure or a column that a report needs.
    """
    resampling: Resampling = {"num_resamples": num_resamples, "seed": seed}
    make = claims_page.content if tables.about == "claims" else content
    made = make(tables, resampling)
    for picture in made.pictures:
        write(out / "figures" / f"{picture.name}.svg", picture.svg)
        write(out / "figures" / f"{picture.name}.png", picture.png)
    write(out / "results.json", as_json(made.results).encode())
    return Report(write(out / "index.html", made.page.encode()), tuple(made.findings))


def content(tables: Tables, resampling: Resampling) -> Content:
    """What the page of a study about the gap holds."""
    how = {"num_resamples": resampling["num_resamples"], "seed": resampling["seed"]}
    analysis = analyse(tables, **how)
    found = _findings(analysis)
    drawn = [*pictures(tables, analysis), *axis_pictures(analysis)]
    drawn += course_pictures(tables, analysis.population, resampling)
    drawn += model_pictures(tables, analysis.population, seed=resampling["seed"])
    page = render_page(tables, analysis, found, drawn)
    return Content(page, found, drawn, _results(tables, analysis, found))


def render_page(
    tables: Tables, analysis: Analysis, findings: list[str], drawn: list[Picture]
) -> str:
    """The page as a text, everything from the tables escaped."""
    return template("page.html.jinja").render(
        style=style(),
        tables=tables,
        paragraphs=[text for text in map(str.strip, tables.description.split("\n\n")) if text],
        findings=[_WHOLE.split(finding) for finding in findings],
        caution=_caution(analysis),
        counts=_counts(analysis),
        pictures=[p for p in drawn if not (p.development or p.along or p.shift)],
        script=script() if any(picture.surface for picture in drawn) else "",
        shifted=_shifted(analysis, drawn),
        settings=[setting_grid(analysis), *filter(None, [regime_grid(analysis)])],
        choice=choice_grid(analysis),
        gap_grids=correlation_grids(analysis),
        loss_grids=[*criterion_grids(analysis), *rival_grids(analysis)],
        size=size_grid(analysis),
        axis_grids=[*axis_grids(analysis), *filter(None, [trend_grid(analysis)])],
        claims=claim_grid(analysis.claims),
        ladder=ladder_grids(analysis),
        folded=len(analysis.population.settings) > MANY_SETTINGS,
        development=_development(analysis, drawn),
        along=_along(analysis, drawn),
        tested=len(analysis.population.tested),
        rivals=analysis.population.rivals,
        missing=missing_grids(analysis.exclusions, analysis.misses, analysis.warnings),
        provenance={words(key): said(value) for key, value in tables.provenance.items()},
    )


def _findings(analysis: Analysis) -> list[str]:
    """Those of the shift first; what a study without a TIC cannot say is left out beside them."""
    if analysis.shift is None:
        return sentences(analysis)
    others = sentences(analysis) if analysis.main else []
    return [*shift_sentences(analysis.shift), *others]


def _shifted(analysis: Analysis, drawn: list[Picture]) -> dict[str, Any] | None:
    """What there is to show of an environment kept out of training."""
    if analysis.shift is None:
        return None
    shown = [picture for picture in drawn if picture.shift]
    return {"pictures": shown, "grids": shift_grids(analysis.shift)}


def _development(analysis: Analysis, drawn: list[Picture]) -> dict[str, Any] | None:
    """What there is to show of the settings that the findings leave aside."""
    if not analysis.population.development:
        return None
    return {
        "settings": len(analysis.population.development),
        "pictures": [picture for picture in drawn if picture.development],
        "grids": [
            *correlation_grids(analysis, development=True),
            *criterion_grids(analysis, development=True),
            *rival_grids(analysis, development=True),
            *filter(None, [size_grid(analysis, development=True)]),
        ],
    }


def _along(analysis: Analysis, drawn: list[Picture]) -> dict[str, Any] | None:
    """What there is to show of the checkpoints along training."""
    if analysis.along is None:
        return None
    return {
        "unit": "epochs" if analysis.along.unit == "epoch" else "steps of the optimizer",
        "checkpoints": ", ".join(map(str, analysis.along.checkpoints)),
        "finding": in_words(analysis.along, analysis.main),
        "pictures": [picture for picture in drawn if picture.along],
        "grids": along_grids(analysis),
    }


def _caution(analysis: Analysis) -> str:
    """The most frequent warning about the numbers that the findings rest on; none where clean."""
    warnings = analysis.warnings.to_dict(orient="records")
    own = next((row for row in warnings if row["measure"] == analysis.main), None)
    if own is None:
        return ""
    return (
        f"With caution: {own['models']} of the {len(analysis.population.models)} models carry "
        f"this warning about their {analysis.main}: {own['warning']}."
    )


def _counts(analysis: Analysis) -> dict[str, int]:
    models = analysis.population.models
    return {
        "models": len(models),
        "ranked": len(analysis.population.ranked),
        "diverged": sum(reason == "diverged" for reason in models["excluded"]),
        "points": len(set(models["point"])),
        "settings": len(analysis.population.settings),
        "measures": len(analysis.population.measures),
    }


def _results(tables: Tables, analysis: Analysis, findings: list[str]) -> dict[str, Any]:
    """Everything on the page as JSON values, nan as null and infinities as texts."""
    named = {
        "settings": analysis.settings,
        "regimes": analysis.regimes,
        "correlations": analysis.correlations,
        "criteria": analysis.criteria,
        "choices": analysis.choices,
        "rivalry": analysis.rivalry,
        "sizes": analysis.sizes,
        "granulated": analysis.granulated,
        "environments": analysis.environments.summary,
        "pooled": analysis.pooled,
        "ratios": analysis.ratios,
        "trends": analysis.trends,
        "claims": analysis.claims,
        "ladder": analysis.ladder,
        "exclusions": analysis.exclusions,
        "misses": analysis.misses,
        "warnings": analysis.warnings,
        "models": analysis.population.models.dropna(axis=1, how="all"),
    }
    if analysis.shift is not None:
        tables_of_shift = ("matched", "curve", "returns", "chosen")
        named |= {f"shift_{name}": getattr(analysis.shift, name) for name in tables_of_shift}
    if analysis.along is not None:
        named["along_means"] = analysis.along.means
        named["along_within"] = analysis.along.within
        named["along_across"] = analysis.along.across
    about = {"name": tables.name, "title": tables.title, "description": tables.description}
    rows = {name: plain(table.to_dict(orient="records")) for name, table in named.items()}
    return {**about, "findings": findings, **rows, "provenance": plain(tables.provenance)}
