"""Figures that a study asks for: quantities along training, and portraits of single models."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from gentheory.study.claim import LOSSES, Where
from gentheory.study.settings import Section


class CourseFigure(Section):
    """`[[report.figures]]` with `quantities`: they at every checkpoint along training.

    Means over the models of a panel and series, with their intervals.
    """

    title: Annotated[str, Field(min_length=1)]
    caption: str = ""
    quantities: Annotated[list[str], Field(min_length=1)]
    """Measures taken along training, or `LOSSES`."""
    axis: str = ""
    """What the upright axis is called; the quantity, or "value" of several, unless given."""
    series: str = "quantity"
    """A line for each quantity, or for each value of this column or option."""
    panel: str | None = None
    """A panel for each value of this column or option, or for each "quantity"; one unless given."""
    where: Where = {}
    limits: tuple[float, float] | None = None
    """Of a linear axis; logarithmic unless given, where most numbers are positive."""

    def measures(self) -> list[str]:
        """The measures among the quantities."""
        return [name for name in self.quantities if "." in name]

    @model_validator(mode="after")
    def _tells_apart(self) -> "CourseFigure":
        if len(set(self.quantities)) < len(self.quantities):
            raise ValueError("quantities: one stands twice; give each once")
        if self.panel == self.series:
            raise ValueError(f"panel and series are both {self.panel!r}; choose another for one")
        if len(self.quantities) > 1 and "quantity" not in (self.panel, self.series):
            raise ValueError('several quantities; let panel or series be "quantity"')
        for name in self.quantities:
            if "." not in name and name not in LOSSES:
                raise ValueError(f"{name!r} is neither a measure nor one of {', '.join(LOSSES)}")
        if self.limits is not None and not self.limits[0] < self.limits[1]:
            raise ValueError(f"limits: {self.limits[0]} is not below {self.limits[1]}")
        return self


class ModelFigure(Section):
    """`[[report.figures]]` with a `kind`: what `gentheory plot KIND` draws.

    Of one model, from its weights when the report is written; correlations are of all models.
    """

    kind: Literal[
        "landscape", "density", "eigenvalues", "kernel", "collapse", "classes", "correlations"
    ]
    where: Where = {}
    """Values of columns or options; of the models that have them the first one is drawn."""
    options: dict[str, JsonValue] = {}
    """Those of the command."""

    def measures(self) -> list[str]:
        """None: it takes its own."""
        return []

    @model_validator(mode="after")
    def _of_one_model(self) -> "ModelFigure":
        if self.kind == "correlations" and (self.where or self.options):
            raise ValueError("correlations are of all models; drop where and options")
        return self


KINDS = ("course", "model")
"""What pydantic calls the two kinds of figures, in the places of mistakes."""


def _kind(value: Any) -> str:
    named = value if isinstance(value, dict) else vars(value)
    return "model" if "kind" in named else "course"


AnyFigure: TypeAlias = Annotated[
    Annotated[CourseFigure, Tag("course")] | Annotated[ModelFigure, Tag("model")],
    Discriminator(_kind),
]
