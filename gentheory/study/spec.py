"""What a study is: TOML checked whole, every mistake reported at once with its place."""

import json
import tomllib
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
    keep_residuals: Annotated[bool, Field(strict=True)] = False
    """Keep the mean over training of the outputs' gradients, for `tic.leave_one_out`."""


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


class MeasuresSection(_Section):
    """`[measures]`: measured on each trained model, over its training examples."""

    names: Annotated[list[Annotated[str, AfterValidator(_known)]], Field(min_length=1)]
    dtype: Literal["float32", "float64"] = "float64"
    options: dict[str, dict[str, JsonValue]] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "MeasuresSection":
        from gentheory.measures import check_options

        if len(set(self.names)) < len(self.names):
            raise ValueError("names: a measure stands twice; give each once")
        check_options(self.options, self.names)
        return self


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
    draws: Draws | None = None
    measures: MeasuresSection

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        labels = [architecture.label for architecture in self.architectures]
        if len(set(labels)) < len(labels):
            raise ValueError(f"architectures: two share a label in {labels}; give each its own")
        twice = set(self.grid.axes()) & set(self.draws.axes() if self.draws else ())
        if twice:
            raise ValueError(f"{sorted(twice)} stand in both [grid] and [draws]; keep one")
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
