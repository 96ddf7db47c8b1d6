"""What one model of a study is: its data, its architecture and how it is trained."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

Count: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
Rate: TypeAlias = Annotated[float, Field(gt=0, strict=True)]
Decay: TypeAlias = Annotated[float, Field(ge=0, strict=True)]
Momentum: TypeAlias = Annotated[float, Field(ge=0, lt=1, strict=True)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1, strict=True)]
Seed: TypeAlias = Annotated[int, Field(ge=0, strict=True)]


class Section(BaseModel):
    """A section of a study's file: unknown keys are mistakes, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(Section):
    """`[data]`: the data set, by the name of its loader, and the loader's options."""

    name: str
    options: dict[str, JsonValue] = {}


class Architecture(Section):
    """`[[architectures]]`: a model by the name of its builder, and the builder's options."""

    label: Annotated[str, Field(min_length=1, max_length=40)]
    model: str
    options: dict[str, JsonValue] = {}
    vary: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = {}
    """Lists of values for more options: an architecture for every combination of them."""
    learning_rate_factor: Rate = 1.0
    """Multiplies every learning rate, as 1 / α² does for an output scale α."""

    @field_validator("vary")
    @classmethod
    def _once(cls, axes: dict[str, list[JsonValue]]) -> dict[str, list[JsonValue]]:
        for name, values in axes.items():
            if any(value in values[:place] for place, value in enumerate(values)):
                raise ValueError(f"{name}: a value stands twice; give each once")
        return axes

    def variants(self) -> Iterator["Variant"]:
        """One for each combination of `vary`; the architecture itself where nothing varies."""
        for values in product(*self.vary.values()):
            own = dict(zip(self.vary, values, strict=True))
            label = ", ".join([self.label, *(f"{name} {value}" for name, value in own.items())])
            yield Variant(label, self, {**self.options, **own})


@dataclass(frozen=True)
class Variant:
    """An architecture with one value for each of its options."""

    label: str
    family: Architecture
    options: Mapping[str, JsonValue]


class Settings(Section):
    """`[training]`: what holds for every model, unless an axis of `[grid]` or `[draws]` sets it.

    Every field is an axis, and a column of the table of models.
    """

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


class Training(Settings):
    """`[training]`: the settings, and what is kept along the way, which changes no model."""

    checkpoints: list[Annotated[int, Field(ge=0, strict=True)]] = []
    """Epochs after which every model is evaluated, kept and measured; 0 is before training."""
    keep_checkpoints: Annotated[bool, Field(strict=True)] = True
    """Whether their weights stay in the study's folder, beside those of the end."""

    def settings(self) -> dict[str, Any]:
        """What is a setting of each model."""
        return self.model_dump(include=set(Settings.model_fields))

    @field_validator("checkpoints")
    @classmethod
    def _rising(cls, epochs: list[int]) -> list[int]:
        if epochs != sorted(set(epochs)):
            raise ValueError("epochs that do not rise; sort them and give each once")
        return epochs


OWN = ("learning_rate", "momentum", "weight_decay", "seed")
"""Settings that each model of a stack may have for itself; it shares all the others."""
SHARED = tuple(name for name in Settings.model_fields if name not in OWN)


def axes() -> dict[str, Any]:
    """The type of a value of each setting: None, which stands for "not given", is no value.

    A setting that is a list of numbers is no axis.
    """
    found: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        kinds = get_args(field.annotation)
        kind = kinds[0] if type(None) in kinds else field.annotation
        if get_origin(kind) not in (list, tuple):
            found[name] = Annotated[kind, *field.metadata] if field.metadata else kind
    return found


def plain_types() -> dict[str, type]:
    """str, float, int or bool: what the values of each axis are."""
    found: dict[str, type] = {}
    for name, kind in axes().items():
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        found[name] = type(get_args(kind)[0]) if get_origin(kind) is Literal else kind
    return found
