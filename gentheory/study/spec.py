"""What a study is: TOML checked whole, every mistake reported at once with its place."""

import json
import tomllib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from gentheory.errors import InputError
from gentheory.study.grid import Draws, Exclusion, Grid
from gentheory.study.settings import (
    Architecture,
    Count,
    DataSection,
    Section,
    Seed,
    Settings,
    Variant,
)


def _known(name: str) -> str:
    # Imported here: `gentheory --help` must not wait for torch.
    from gentheory.measures import expanded, find

    for one in expanded([name]):
        find(one)
    return name


def _expanded(names: list[str]) -> list[str]:
    """With the measures of a family, and of "cheap"; what stands twice stays, to be refused."""
    from gentheory.measures import expanded

    return expanded(names) if len(set(names)) == len(names) else names


Name: TypeAlias = Annotated[str, AfterValidator(_known)]
Names: TypeAlias = Annotated[list[Name], AfterValidator(_expanded)]


class MeasuresSection(Section):
    """`[measures]`: measured on each trained model, over its training examples or held-out ones."""

    names: Annotated[Names, Field(min_length=1)]
    """A family stands for its measures, and "cheap" for a battery of them."""
    dtype: Literal["float32", "float64"] = "float64"
    options: dict[str, dict[str, JsonValue]] = {}
    held_out: Count | None = None
    """Examples for the measures of `on_held_out`, neither training nor test data."""
    on_held_out: Names = []
    """Measured on the held-out examples: `NAME` becomes the row `NAME:held-out`."""

    def rows(self) -> list[str]:
        """What the measures are called in the study's tables."""
        return [*self.names, *map(held_out_name, self.on_held_out)]

    @model_validator(mode="after")
    def _consistent(self) -> "MeasuresSection":
        from gentheory.measures import check_options

        if len(set(self.rows())) < len(self.rows()):
            raise ValueError("names: a measure stands twice; give each once")
        if (self.held_out is None) != (not self.on_held_out):
            raise ValueError("held_out and on_held_out stand together or not at all")
        check_options(self.options, [*self.names, *self.on_held_out])
        return self


def held_out_name(measure: str) -> str:
    """The row of a measure on held-out examples."""
    return f"{measure}:held-out"


class RivalsSection(Section):
    """`[rivals]`: what a user would do instead of measuring, each a loss on examples held out."""

    validation: list[Annotated[float, Field(gt=0, lt=1, strict=True)]] = []
    """Shares of the training examples to hold out, each for a training on the rest."""
    folds: Annotated[int, Field(ge=2, strict=True)] | None = None
    """Cross-validation: every example is held out in one of as many trainings."""

    @field_validator("validation")
    @classmethod
    def _once(cls, shares: list[float]) -> list[float]:
        if len(set(shares)) < len(shares):
            raise ValueError("a share stands twice; give each once")
        return shares


class ReportSection(Section):
    """`[report]`: what the report is about; the models do not depend on it."""

    main: str | None = None
    """The predicted gap of the findings, one of the measures; `tic.exact` unless given."""
    describe: list[str] = []
    """Measures that tell the settings' regimes apart, such as `ntk.distance`."""
    development: Literal["checkerboard"] | None = None
    """Settings on which the criterion was chosen: the findings are about the others.

    "checkerboard": every other one, those where the places of architecture, n_train and
    label_noise in their lists (from 0) have an even sum."""


class Study(Section):
    """A whole study, as one TOML file describes it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    title: str
    description: str = ""
    seed: Seed = 0
    stack: Count = 16
    """Models trained together: a shard, the unit of work that is kept or lost as a whole."""
    threads: Count = 1
    """Threads a shard uses. Part of the study, since sums depend on it in their last digits."""
    data: DataSection
    architectures: Annotated[list[Architecture], Field(min_length=1)]
    training: Settings = Settings()
    grid: Grid = Grid()
    exclude: list[Exclusion] = []
    draws: Draws | None = None
    measures: MeasuresSection
    rivals: RivalsSection = RivalsSection()
    report: ReportSection = ReportSection()

    def is_development(self, architecture: str, n_train: int, label_noise: float) -> bool:
        """Whether the report sets this setting apart, as one on which a choice was made."""
        if self.report.development is None:
            return False
        places = [[variant.label for variant in self.variants()].index(architecture)]
        axes = self.grid.axes()
        for name, value in (("n_train", n_train), ("label_noise", label_noise)):
            places += [axes[name].index(value)] if name in axes else []
        return sum(places) % 2 == 0

    def variants(self) -> list[Variant]:
        """Every architecture with every combination of what varies in it."""
        return [variant for one in self.architectures for variant in one.variants()]

    def combinations(self) -> Iterator[tuple[Variant, dict[str, Any]]]:
        """What is trained: a variant with one value of each axis of the grid."""
        for variant, axes in product(self.variants(), self.grid.combinations()):
            names = (variant.label, variant.family.label)
            if not any(exclusion.covers(names, axes) for exclusion in self.exclude):
                yield variant, axes

    @model_validator(mode="after")
    def _reportable(self) -> "Study":
        main, rows = self.report.main, self.measures.rows()
        if main is not None and (main not in rows or not main.startswith("tic.")):
            raise ValueError(f"report.main: {main!r} is no predicted gap among {rows}; name one")
        for name in self.report.describe:
            if name not in rows:
                raise ValueError(f"report.describe: {name!r} is not among {rows}; name one")
        axes = [self.grid.axes().get(name, [None]) for name in ("n_train", "label_noise")]
        if self.report.development and all(len(axis) == 1 for axis in (self.variants(), *axes)):
            raise ValueError("report.development: one setting cannot be split; drop it")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        labels = [variant.label for variant in self.variants()]
        if len(set(labels)) < len(labels):
            raise ValueError(f"architectures: two share a label in {labels}; give each its own")
        twice = set(self.grid.axes()) & set(self.draws.axes() if self.draws else ())
        if twice:
            raise ValueError(f"{sorted(twice)} stand in both [grid] and [draws]; keep one")
        return self

    @model_validator(mode="after")
    def _excludable(self) -> "Study":
        names = {n: None for v in self.variants() for n in (v.family.label, v.label)}
        known = {**self.grid.axes(), "architecture": list(names)}
        for place, exclusion in enumerate(self.exclude):
            for name, value in exclusion.given().items():
                if value not in known.get(name, ()):
                    values = f"not among {known[name]}" if name in known else "of no axis in [grid]"
                    raise ValueError(f"exclude[{place}].{name}: {value!r} is {values}; correct it")
        if not any(True for _ in self.combinations()):
            raise ValueError("exclude: no model is left to train; drop an exclusion")
        return self


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
        mistakes = [_sentence(item) for item in error.errors()]
        raise InputError(
            place,
            f"{len(mistakes)} mistake{'s' * (len(mistakes) > 1)}: " + "; ".join(mistakes),
            "a study that holds",
            "correct each place named",
        ) from None


def _sentence(item: Any) -> str:
    """One mistake: where, what stands there, and what is wrong with it."""
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"]).lstrip(".")
    given = item["input"]
    short = json.dumps(given, default=str)[:60] if not isinstance(given, dict) else ""
    message = item["msg"].removeprefix("Value error, ").rstrip(".")
    if item["type"] == "extra_forbidden":
        message = "unknown key; remove it or correct its name"
    return f"{where or 'study'}{f' = {short}' if short else ''} ({message})"
