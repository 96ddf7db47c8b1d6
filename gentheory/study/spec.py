"""What a study is: TOML checked whole, every mistake reported at once with its place."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from gentheory.errors import InputError
from gentheory.study import claim, draws, figure
from gentheory.study.claim import AnyClaim, Statement
from gentheory.study.figure import AnyFigure, CourseFigure
from gentheory.study.part import Part
from gentheory.study.settings import Count, Section, Seed

_BY_KEY = ("training", "measures", "draws")
_KINDS = (*draws.KINDS, *claim.KINDS, *figure.KINDS)


class ReportSection(Section):
    """`[report]`: what the report is about; the models do not depend on it."""

    about: Literal["gap", "claims"] = "gap"
    """What the page is built around: the ranking of the gap and of the test loss, or the claims."""
    main: str | None = None
    """The predicted gap of the findings, one of the measures; `tic.exact` unless given."""
    describe: list[str] = []
    """Measures that tell the settings' regimes apart, such as `ntk.distance`."""
    claims: list[AnyClaim] = []
    """What a paper says, each with the number that decides on it."""
    figures: list[AnyFigure] = []
    """Quantities along training, and portraits of single models."""
    development: Literal["checkerboard"] | None = None
    """Settings on which the criterion was chosen: the findings are about the others.

    "checkerboard": every other one, those where the places of architecture, n_train and
    label_noise in their lists (from 0) have an even sum."""

    @model_validator(mode="after")
    def _shown(self) -> "ReportSection":
        unread = [name for name in ("main", "describe", "development") if getattr(self, name)]
        if self.about == "claims" and unread:
            raise ValueError(f"{unread[0]}: a page about claims shows none; drop it")
        if self.about == "claims" and not (self.claims or self.figures):
            raise ValueError("about: there are no claims; add claims or figures")
        return self


class Study(Section):
    """A whole study, as one TOML file describes it.

    It has parts, each with data, architectures and axes of its own. A part takes from the file's
    upper level the sections that it does not give; `[training]`, `[measures]` and `[draws]` it
    takes key by key. A file without `[[parts]]` is a study of one.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    title: str
    description: str = ""
    seed: Seed = 0
    threads: Count = 1
    """Threads a shard uses. Part of the study, since sums depend on it in their last digits."""
    parts: Annotated[list[Part], Field(min_length=1)]
    report: ReportSection = ReportSection()

    @model_validator(mode="before")
    @classmethod
    def _in_parts(cls, raw: Any) -> Any:
        """Every part with all of its sections."""
        if not isinstance(raw, dict):
            return raw
        given: dict[str, Any] = raw
        common = {key: value for key, value in given.items() if key in Part.model_fields}
        parts = given.get("parts", [{}])
        if isinstance(parts, list):
            parts = [_completed(part, common) for part in parts]
        return {key: value for key, value in given.items() if key not in common} | {"parts": parts}

    def is_development(self, part: int, architecture: str, n_train: int, noise: float) -> bool:
        """Whether the report sets this setting apart, as one on which a choice was made."""
        if self.report.development is None:
            return False
        return self.parts[part].checkerboard(architecture, n_train, noise)

    @model_validator(mode="after")
    def _reportable(self) -> "Study":
        main = self.report.main
        rows = list(dict.fromkeys(row for part in self.parts for row in part.measures.rows()))
        if main is not None and (main not in rows or not main.startswith("tic.")):
            raise ValueError(f"report.main: {main!r} is no predicted gap among {rows}; name one")
        for name in self.report.describe:
            if name not in rows:
                raise ValueError(f"report.describe: {name!r} is not among {rows}; name one")
        for place, asked in (("claims", self.report.claims), ("figures", self.report.figures)):
            for name in (name for one in asked for name in one.measures()):
                if name not in rows:
                    raise ValueError(f"report.{place}: {name!r} is not among {rows}; name one")
        self._check_along()
        if self.report.development and sum(part.num_settings() for part in self.parts) == 1:
            raise ValueError("report.development: one setting cannot be split; drop it")
        return self

    def _check_along(self) -> None:
        """What the report says of the course of training must be measured along it."""
        stated = [one for one in self.report.claims if isinstance(one, Statement) and one.is_along]
        asked = [*stated, *(one for one in self.report.figures if isinstance(one, CourseFigure))]
        if not asked:
            return
        if not any(p.training.checkpoints or p.training.checkpoint_steps for p in self.parts):
            text = "no training.checkpoints to look at; give some, or checkpoint_steps"
            raise ValueError(f"report: {text}")
        taken = {row for part in self.parts for row in part.measures.along}
        for name in (name for one in asked for name in one.measures()):
            if name not in taken:
                text = f"{name!r} is not among measures.along {sorted(taken)}; add it there"
                raise ValueError(f"report: {text}")


def _completed(part: Any, common: Mapping[str, Any]) -> Any:
    """A part with the sections of the upper level that it does not give."""
    if not isinstance(part, dict):
        return part
    given: dict[str, Any] = part
    whole = {**common, **given}
    for key in _BY_KEY:
        if isinstance(common.get(key), dict) and isinstance(given.get(key), dict):
            whole[key] = {**common[key], **given[key]}
    return whole


def read(path: Path | str) -> Study:
    """The study in this TOML file. Raises `InputError` that lists every mistake with its place."""
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "a study in TOML", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), str(error), "a TOML file", "correct it there") from None
    except OSError as error:
        raise InputError(str(path), str(error), "a readable file", "check the path") from None
    return parse(raw, place=str(path))


def parse(raw: dict[str, Any], *, place: str) -> Study:
    """The study in these plain values; `place` names their source in errors."""
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        sentences = [_sentence(item, flat="parts" not in raw) for item in error.errors()]
        mistakes = list(dict.fromkeys(sentences))
        raise InputError(
            place,
            f"{len(mistakes)} mistake{'s' * (len(mistakes) > 1)}: " + "; ".join(mistakes),
            "a study that holds",
            "correct each place named",
        ) from None


def _sentence(item: Any, *, flat: bool) -> str:
    """One mistake: where, what stands there, and what is wrong with it.

    `flat` is a file without parts, whose sections are those of the one part there is.
    """
    places = [place for place in item["loc"] if place not in _KINDS]
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in places).lstrip(".")
    where = where.removeprefix("parts[0]").lstrip(".") if flat else where
    given = item["input"]
    short = json.dumps(given, default=str)[:60] if not isinstance(given, dict) else ""
    message = item["msg"].removeprefix("Value error, ").rstrip(".")
    if item["type"] == "extra_forbidden":
        message = "unknown key; remove it or correct its name"
    return f"{where or 'study'}{f' = {short}' if short else ''} ({message})"
