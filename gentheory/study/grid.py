"""The axes of a study: lists of values for any setting, ranges to draw from, and exclusions."""

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, field_validator, model_validator

from gentheory.study.settings import Count, Section, Settings, axes

_AXES = axes()


class _Grid(Section):
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


class _Exclusion(Section):
    architecture: str | None = None

    def given(self) -> dict[str, Any]:
        """The keys that are set."""
        return {name: value for name, value in self if value is not None}

    def covers(self, architectures: Collection[str], axes: Mapping[str, Any]) -> bool:
        """Whether a combination of the grid is left out; an architecture has several names."""
        given = self.given()
        named = given.pop("architecture", None)
        return (named is None or named in architectures) and all(
            axes.get(name) == value for name, value in given.items()
        )

    @model_validator(mode="after")
    def _not_everything(self) -> "_Exclusion":
        if not self.given():
            raise ValueError("no key leaves out everything; name an architecture or a value")
        return self


if TYPE_CHECKING:

    class Grid(_Grid):
        """`[grid]`: lists of values; every combination is trained for every architecture."""

    class Exclusion(_Exclusion):
        """`[[exclude]]`: no model is trained where all of its keys hold."""

else:
    # A setting of `[training]` is an axis at once, under its own name and with its own checks.
    Grid = create_model(
        "Grid",
        __base__=_Grid,
        **{name: (list[kind] | None, None) for name, kind in _AXES.items()},
    )
    Exclusion = create_model(
        "Exclusion",
        __base__=_Exclusion,
        **{name: (kind | None, None) for name, kind in _AXES.items()},
    )


class Range(Section):
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


class Draws(Section):
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
