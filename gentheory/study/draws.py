"""Settings drawn at random or quasi-randomly, and axes that only some models have."""

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, create_model, model_validator

from gentheory.study.settings import Count, Section, Settings, axes, plain_types

KINDS = ("range", "choices")
"""What pydantic calls the two ways to give an axis, in the places of mistakes."""


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
        """The value at a quantile in [0, 1)."""
        if self.scale == "log":
            return self.low * (self.high / self.low) ** quantile
        return self.low + (self.high - self.low) * quantile


class WholeRange(Range):
    """A range of whole numbers, both ends included: the bins [k, k + 1) of a range of reals."""

    # An int is a float that nobody can change here: the section is frozen.
    low: Annotated[int, Field(strict=True)]  # pyright: ignore[reportIncompatibleVariableOverride]
    high: Annotated[int, Field(strict=True)]  # pyright: ignore[reportIncompatibleVariableOverride]

    def at(self, quantile: float) -> int:
        """The value at a quantile in [0, 1)."""
        reals = Range(low=self.low, high=self.high + 1, scale=self.scale)
        return min(self.high, math.floor(reals.at(quantile)))


class _Draws(Section):
    count: Count
    method: Literal["random", "sobol", "halton"] = "random"
    """`sobol` and `halton` fill the space more evenly, with scrambled points of `scipy.stats.qmc`.

    More draws keep the first ones with all three. Another axis leaves those of the others as they
    were only with `random`. Sobol points are balanced where the count is a power of two."""
    repeats: Count = 1
    """Models of each draw, which differ in their seeds."""

    def axes(self) -> "dict[str, Range | list[Any]]":
        """What to draw from, in the order of the settings."""
        return {n: v for n, v in self if n in Settings.model_fields and v is not None}

    @model_validator(mode="after")
    def _admissible(self) -> "_Draws":
        for name, values in self.axes().items():
            ends = [values.low, values.high] if isinstance(values, Range) else values
            for value in ends:
                Settings.__pydantic_validator__.validate_assignment(
                    Settings.model_construct(), name, value
                )
        return self

    @model_validator(mode="after")
    def _chosen_once(self) -> "_Draws":
        for name, values in self.axes().items():
            if isinstance(values, list) and not 0 < len(values) == len(set(values)):
                raise ValueError(f"{name}: give at least one value, and each once")
        if self.repeats > 1 and "seed" in self.axes():
            raise ValueError("repeats give each draw seeds of its own; drop it or the axis seed")
        return self


class _When(Section):
    architecture: list[str] | None = None

    def given(self) -> dict[str, list[Any]]:
        """The keys that are set."""
        return {name: values for name, values in self if values is not None}


def _kind(value: Any) -> str:
    return "choices" if isinstance(value, list) else "range"


def _drawn_from(name: str, kind: Any) -> Any:
    """The type of an axis of `[draws]`: a list for every setting, a range for numbers."""
    ranges: dict[type, Any] = {float: Range, int: WholeRange}
    if (plain := plain_types()[name]) not in ranges:
        return list[kind] | None
    one: Any = Annotated[ranges[plain], Tag("range")]
    other: Any = Annotated[list[kind], Tag("choices")]
    either: Any = Annotated[one | other, Discriminator(_kind)]
    return either | None


if TYPE_CHECKING:

    class Draws(_Draws):
        """`[draws]`: `count` settings, the same ones for each architecture and grid point.

        An axis is a list, each value as likely as the others, or for numbers a range.
        """

    class When(_When):
        """Lists of values by setting, or `architecture`: it holds where each has one of its."""

else:
    Draws = create_model(
        "Draws",
        __base__=_Draws,
        **{name: (_drawn_from(name, kind), None) for name, kind in axes().items()},
    )
    When = create_model(
        "When",
        __base__=_When,
        **{name: (list[kind] | None, None) for name, kind in axes().items()},
    )


class Condition(Section):
    """`[[conditions]]`: axes that only some models have, such as a momentum that needs SGD.

    Where `when` does not hold, they keep the values of `[training]`. What is then one and the
    same model is trained once.
    """

    axes: Annotated[list[str], Field(min_length=1)]
    when: When

    def holds(self, architectures: Collection[str], settings: Mapping[str, Any]) -> bool:
        """Whether these settings have the axes; an architecture has several names."""
        given = self.when.given()
        named = given.pop("architecture", architectures)
        return any(name in named for name in architectures) and all(
            settings[name] in values for name, values in given.items()
        )

    @model_validator(mode="after")
    def _conditional(self) -> "Condition":
        if not self.when.given():
            raise ValueError("when: no key holds everywhere; name an architecture or a value")
        if both := sorted(set(self.axes) & set(self.when.given())):
            raise ValueError(f"{both} stand in both axes and when; keep one")
        return self
