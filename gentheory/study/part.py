"""What a study, or a part of it, trains and measures."""

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, JsonValue, field_validator, model_validator

from gentheory.study.conditions import mistakes
from gentheory.study.draws import Condition, Draws, Range
from gentheory.study.grid import Exclusion, Grid
from gentheory.study.settings import Architecture, Count, DataSection, Section, Training, Variant


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
    examples: Count | None = None
    """Measure on so many of the training examples, the first of the random order; a predicted gap
    is still that of all on which the model was trained."""
    alone: Annotated[bool, Field(strict=True)] = False
    """Whether one model of each stack is trained and measured once more by itself, for the table
    of costs: what it takes when nothing is shared with a stack."""
    held_out: Count | None = None
    """Examples for the measures of `on_held_out`, neither training nor test data."""
    on_held_out: Names = []
    """Measured on the held-out examples: `NAME` becomes the row `NAME:held-out`."""
    along: Names = []
    """Rows, of `names` and `NAME:held-out`, measured at each of `training.checkpoints` too."""

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
        if len(set(self.along)) < len(self.along):
            raise ValueError("along: a measure stands twice; give each once")
        if unknown := [name for name in self.along if name not in self.rows()]:
            raise ValueError(f"along: {unknown} are not among {self.rows()}; add them there")
        if self.along and not set(self.along) & set(self.names):
            raise ValueError("along: none of names, on the training examples; add one")
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


class Part(Section):
    """Models of one data set: all sections of a study but for what is said of it as a whole."""

    data: DataSection
    stack: Count = 16
    """Models trained together: a shard, the unit of work that is kept or lost as a whole."""
    stacks: dict[str, Count] = {}
    """Another number for an architecture, by its label."""
    try_stacks: Annotated[bool, Field(strict=True)] = False
    """Whether memory and a short trial choose the numbers of architectures that `stacks` misses.

    Once, when the study's folder is made: the numbers stand there, so that every machine and every
    later run has the same shards."""
    architectures: Annotated[list[Architecture], Field(min_length=1)]
    training: Training = Training()
    grid: Grid = Grid()
    exclude: list[Exclusion] = []
    draws: Draws | None = None
    conditions: list[Condition] = []
    measures: MeasuresSection
    rivals: RivalsSection = RivalsSection()

    def stack_of(self, architecture: str) -> int:
        """Models of the architecture of this label that are trained together."""
        return self.stacks.get(architecture, self.stack)

    def variants(self) -> list[Variant]:
        """Every architecture with every combination of what varies in it."""
        return [variant for one in self.architectures for variant in one.variants()]

    def settle(self, variant: Variant, settings: dict[str, Any]) -> None:
        """Give the axes that these settings do not have, by `conditions`, their usual values."""
        names = (variant.label, variant.family.label)
        for condition in self.conditions:
            if not condition.holds(names, settings):
                settings.update({name: getattr(self.training, name) for name in condition.axes})

    def combinations(self) -> Iterator[tuple[Variant, dict[str, Any]]]:
        """What is trained: a variant with one value of each axis of the grid."""
        for variant, axes in product(self.variants(), self.grid.combinations()):
            names = (variant.label, variant.family.label)
            if not any(exclusion.covers(names, axes) for exclusion in self.exclude):
                yield variant, axes

    def checkerboard(self, architecture: str, n_train: int, label_noise: float) -> bool:
        """Whether a setting's places in the lists of the axes, from 0, have an even sum."""
        places = [[variant.label for variant in self.variants()].index(architecture)]
        axes = self.grid.axes()
        for name, value in (("n_train", n_train), ("label_noise", label_noise)):
            places += [axes[name].index(value)] if value in axes.get(name, ()) else []
        return sum(places) % 2 == 0

    def num_settings(self) -> int:
        """Architectures by numbers of examples by shares of label noise."""
        axes = self.grid.axes()
        lengths = (len(axes[name]) for name in ("n_train", "label_noise") if name in axes)
        return len(self.variants()) * prod(lengths)

    @model_validator(mode="after")
    def _consistent(self) -> "Part":
        labels = [variant.label for variant in self.variants()]
        if len(set(labels)) < len(labels):
            raise ValueError(f"architectures: two share a label in {labels}; give each its own")
        twice = set(self.grid.axes()) & set(self.draws.axes() if self.draws else ())
        if twice:
            raise ValueError(f"{sorted(twice)} stand in both [grid] and [draws]; keep one")
        if self.draws and self.draws.repeats > 1 and self.grid.axes().get("seed"):
            raise ValueError("draws.repeats give seeds, and so does grid.seed; keep one")
        own = [architecture.label for architecture in self.architectures]
        if unknown := sorted(set(self.stacks) - set(own)):
            raise ValueError(f"stacks: {unknown} are not among the architectures {own}; name those")
        return self

    @model_validator(mode="after")
    def _read(self) -> "Part":
        drawn = self.draws.axes() if self.draws else {}
        lists = {name: values for name, values in drawn.items() if isinstance(values, list)}
        axes = {**self.grid.axes(), **lists}
        if found := list(mistakes(self.training.settings(), axes, drawn)):
            raise ValueError("; ".join(found))
        return self

    @model_validator(mode="after")
    def _conditional(self) -> "Part":
        drawn = self.draws.axes() if self.draws else {}
        axes: dict[str, Any] = {**self.grid.axes(), **drawn}
        lists = {name: values for name, values in axes.items() if isinstance(values, list)}
        known = {**lists, "architecture": self._names()}
        for place, condition in enumerate(self.conditions):
            where = f"conditions[{place}]"
            for name in condition.axes:
                if name not in axes:
                    raise ValueError(f"{where}.axes: {name!r} is no axis among {list(axes)}")
            for name, values in condition.when.given().items():
                if name not in known:
                    raise ValueError(f"{where}.when: {name!r} is no list among {list(known)}")
                for value in values:
                    if value not in known[name]:
                        text = f"{where}.when.{name}: {value!r} is not among {known[name]}"
                        raise ValueError(f"{text}; correct it")
        return self

    def _least(self, name: str) -> Any:
        """The least value of a setting that is a number."""
        own = getattr(self.training, name)
        drawn = self.draws.axes().get(name) if self.draws else None
        if isinstance(drawn, Range):
            values = [drawn.low]
        else:
            values = [*self.grid.axes().get(name, drawn or [own])]
        if any(name in condition.axes for condition in self.conditions):
            values.append(own)
        return min(values)

    def _names(self) -> list[str]:
        """Of architectures, with and without what varies in them."""
        both = (name for v in self.variants() for name in (v.family.label, v.label))
        return list(dict.fromkeys(both))

    @model_validator(mode="after")
    def _reachable(self) -> "Part":
        epochs = self._least("epochs")
        if (last := max(self.training.checkpoints, default=0)) > epochs:
            raise ValueError(f"training.checkpoints: {last} is beyond epoch {epochs}; drop it")
        for name in ("measures.along", "training.validation", "training.test"):
            section, field = name.split(".")
            if getattr(getattr(self, section), field) and not self.training.checkpoints:
                raise ValueError(f"{name}: no training.checkpoints to measure at; give some")
        return self

    @model_validator(mode="after")
    def _excludable(self) -> "Part":
        known = {**self.grid.axes(), "architecture": self._names()}
        for place, exclusion in enumerate(self.exclude):
            for name, value in exclusion.given().items():
                if value not in known.get(name, ()):
                    values = f"not among {known[name]}" if name in known else "of no axis in [grid]"
                    raise ValueError(f"exclude[{place}].{name}: {value!r} is {values}; correct it")
        if not any(True for _ in self.combinations()):
            raise ValueError("exclude: no model is left to train; drop an exclusion")
        return self
