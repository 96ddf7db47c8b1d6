"""The grid of a study: lists of values for any setting, and what is excluded."""

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import create_model, field_validator, model_validator

from gentheory.study.settings import Section, axes

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
