"""What a study is: TOML checked whole, every mistake reported at once with its place."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from gentheory.errors import InputError

Count: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
Rate: TypeAlias = Annotated[float, Field(gt=0, strict=True)]
Decay: TypeAlias = Annotated[float, Field(ge=0, strict=True)]
Momentum: TypeAlias = Annotated[float, Field(ge=0, lt=1, strict=True)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1, strict=True)]
Seed: TypeAlias = Annotated[int, Field(ge=0, strict=True)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(_Section):
    """`[data]`: the data set, by the name of its loader, and the loader's options."""

    name: str
    options: dict[str, JsonValue] = {}


class Architecture(_Section):
    """`[[architectures]]`: a model by the name of its builder, and the builder's options."""

    label: Annotated[str, Field(min_length=1, max_length=40)]
    model: str
    options: dict[str, JsonValue] = {}
    learning_rate_factor: Rate = 1.0
    """Multiplies every learning rate, as 1 / α² does for an output scale α."""


class Settings(_Section):
    """`[training]`: what holds for every model, unless an axis of `[grid]` or `[draws]` sets it."""

    epochs: Count = 40
    batch_size: Count = 32
    learning_rate: Rate = 0.1
    momentum: Momentum = 0.0
    weight_decay: Decay = 0.0
    n_train: Count | None = None
    label_noise: Share = 0.0
    seed: Seed = 0
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    schedule: Literal["constant", "cosine"] = "constant"
    stop_at_loss: Rate | None = None
    dtype: Literal["float32", "float64"] = "float32"
    keep_trajectory: Annotated[bool, Field(strict=True)] = False
    """Keep means over windows of training, for `tic.left_out` and `tic.leave_one_out`."""


class Grid(_Section):
    """`[grid]`: lists of values; every combination is trained for every architecture."""

    epochs: list[Count] | None = None
    batch_size: list[Count] | None = None
    learning_rate: list[Rate] | None = None
    momentum: list[Momentum] | None = None
    weight_decay: list[Decay] | None = None
    n_train: list[Count] | None = None
    label_noise: list[Share] | None = None
    seed: list[Seed] | None = None

    @field_validator("*")
    @classmethod
    def _not_empty(cls, values: list[Any] | None) -> list[Any] | None:
        if values is not None and not values:
            raise ValueError("an empty list leaves no model to train; give at least one value")
        if values is not None and len(set(values)) < len(values):
            raise ValueError("a value stands twice; give each once")
        return values

    def axes(self) -> dict[str, list[Any]]:
        """The axes that are set."""
        return {name: values for name, values in self if values is not None}

    def combinations(self) -> Iterator[dict[str, Any]]:
        """One value of each axis that is set, in every way."""
        axes = self.axes()
        for values in product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


class Exclusion(_Section):
    """`[[exclude]]`: no model is trained where all of its keys hold."""

    architecture: str | None = None
    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Rate | None = None
    momentum: Momentum | None = None
    weight_decay: Decay | None = None
    n_train: Count | None = None
    label_noise: Share | None = None
    seed: Seed | None = None

    def given(self) -> dict[str, Any]:
        """The keys that are set."""
        return {name: value for name, value in self if value is not None}

    def covers(self, architecture: str, axes: Mapping[str, Any]) -> bool:
        """Whether a combination of the grid is left out."""
        found = {**axes, "architecture": architecture}
        return all(found.get(name) == value for name, value in self.given().items())

    @model_validator(mode="after")
    def _not_everything(self) -> "Exclusion":
        if not self.given():
            raise ValueError("no key leaves out everything; name an architecture or a value")
        return self


class Range(_Section):
    """A range to draw from, uniformly or uniformly in the logarithm."""

    low: Annotated[float, Field(strict=True)]
    high: Annotated[float, Field(strict=True)]
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a logarithmic range starts above 0, not at {self.low}")
        return self

    def at(self, quantile: float) -> float:
        """The value at a quantile in [0, 1]."""
        if self.scale == "log":
            return self.low * (self.high / self.low) ** quantile
        return self.low + (self.high - self.low) * quantile


class Draws(_Section):
    """`[draws]`: `count` random settings, the same ones for each architecture and grid point."""

    count: Count
    learning_rate: Range | None = None
    momentum: Range | None = None
    weight_decay: Range | None = None

    def axes(self) -> dict[str, Range]:
        """The ranges that are set."""
        return {name: value for name, value in self if isinstance(value, Range)}

    @model_validator(mode="after")
    def _admissible(self) -> "Draws":
        for name, values in self.axes().items():
            for value in (values.low, values.high):
                Settings.__pydantic_validator__.validate_assignment(
                    Settings.model_construct(), name, value
                )
        return self


def _known(name: str) -> str:
    # Imported here: `gentheory --help` must not wait for torch.
    from gentheory.measures import find

    find(name)
    return name


Name: TypeAlias = Annotated[str, AfterValidator(_known)]


class MeasuresSection(_Section):
    """`[measures]`: measured on each trained model, over its training examples or held-out ones."""

    names: Annotated[list[Name], Field(min_length=1)]
    dtype: Literal["float32", "float64"] = "float64"
    options: dict[str, dict[str, JsonValue]] = {}
    held_out: Count | None = None
    """Examples for the measures of `on_held_out`, neither training nor test data."""
    on_held_out: list[Name] = []
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


class RivalsSection(_Section):
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


class ReportSection(_Section):
    """`[report]`: what the report is about; the models do not depend on it."""

    main: str | None = None
    """The predicted gap of the findings, one of the measures; `tic.exact` unless given."""
    describe: list[str] = []
    """Measures that tell the settings' regimes apart, such as `ntk.distance`."""
    development: Literal["checkerboard"] | None = None
    """Settings on which the criterion was chosen: the findings are about the others.

    "checkerboard": every other one, those where the places of architecture, n_train and
    label_noise in their lists (from 0) have an even sum."""


class Study(_Section):
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
        labels = [architecture.label for architecture in self.architectures]
        places = [labels.index(architecture)]
        places += [values.index(n_train) for values in (self.grid.n_train,) if values]
        places += [values.index(label_noise) for values in (self.grid.label_noise,) if values]
        return sum(places) % 2 == 0

    @model_validator(mode="after")
    def _reportable(self) -> "Study":
        main, rows = self.report.main, self.measures.rows()
        if main is not None and (main not in rows or not main.startswith("tic.")):
            raise ValueError(f"report.main: {main!r} is no predicted gap among {rows}; name one")
        for name in self.report.describe:
            if name not in rows:
                raise ValueError(f"report.describe: {name!r} is not among {rows}; name one")
        axes = (self.architectures, self.grid.n_train, self.grid.label_noise)
        if self.report.development and all(len(axis or [None]) == 1 for axis in axes):
            raise ValueError("report.development: one setting cannot be split; drop it")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        labels = [architecture.label for architecture in self.architectures]
        if len(set(labels)) < len(labels):
            raise ValueError(f"architectures: two share a label in {labels}; give each its own")
        twice = set(self.grid.axes()) & set(self.draws.axes() if self.draws else ())
        if twice:
            raise ValueError(f"{sorted(twice)} stand in both [grid] and [draws]; keep one")
        return self

    @model_validator(mode="after")
    def _excludable(self) -> "Study":
        labels = [architecture.label for architecture in self.architectures]
        known = {**self.grid.axes(), "architecture": labels}
        for place, exclusion in enumerate(self.exclude):
            for name, value in exclusion.given().items():
                if value not in known.get(name, ()):
                    values = f"not among {known[name]}" if name in known else "of no axis in [grid]"
                    raise ValueError(f"exclude[{place}].{name}: {value!r} is {values}; correct it")
        if not any(self.chosen(*place) for place in product(labels, self.grid.combinations())):
            raise ValueError("exclude: no model is left to train; drop an exclusion")
        return self

    def chosen(self, architecture: str, axes: Mapping[str, Any]) -> bool:
        """Whether a combination of the grid is trained."""
        return not any(exclusion.covers(architecture, axes) for exclusion in self.exclude)


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
