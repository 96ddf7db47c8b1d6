"""From a study to its models and shards, each named by the hash of what it is."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from gentheory import models
from gentheory.data import load
from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.params import Layout
from gentheory.seeds import generator
from gentheory.study.part import Part
from gentheory.study.settings import SHARED, Variant
from gentheory.study.spec import Study
from gentheory.training.snapshots import check_memory

Stretch = tuple[int, int]
"""Where held-out examples begin and end among the shuffled training examples."""


@dataclass(frozen=True)
class Point:
    """One model of a study, in plain values. Two points are the same model if they are equal."""

    part: int  # of the study, from 0
    architecture: str
    family: str  # the architecture without what varies in it
    model: Mapping[str, Any]  # name, shape, num_classes, options: as `models.build` takes them
    data: Mapping[str, Any]  # a Recipe
    settings: Mapping[str, Any]  # every field of the study's [training], resolved
    draw: int | None  # number of the random setting; None in a plain grid

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits."""
        return digest(asdict(self))


@dataclass(frozen=True)
class Shard:
    """A stack of points trained and measured together: the unit that is committed."""

    points: tuple[Point, ...]
    measures: Mapping[str, Any]  # the study's [measures]
    rivals: Mapping[str, Any]  # the study's [rivals]
    checkpoints: Mapping[str, Any]  # epochs along training, and whether to keep the weights
    threads: int

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits: of the shard's content alone."""
        return digest(asdict(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a worker in another process."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Shard":
        """The inverse of `to_dict`."""
        fields: dict[str, Any] = {**record}
        fields["points"] = tuple(Point(**point) for point in record["points"])
        return cls(**fields)


def digest(value: Any) -> str:
    """The start of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shards(study: Study) -> list[Shard]:
    """All shards in the order of the study: the same study gives the same shards anywhere.

    Raises `InputError` where the data cannot be loaded, an architecture cannot be built for
    them, more training examples are asked for than there are, or the checkpoints of a stack would
    take too much memory.
    """
    return [shard for number in range(len(study.parts)) for shard in _of_part(study, number)]


def _of_part(study: Study, number: int) -> Iterator[Shard]:
    part = study.parts[number]
    epochs, keep = part.training.checkpoints, part.training.keep_checkpoints
    along = {"epochs": epochs, "keep": keep}
    sections = (part.measures.model_dump(), part.rivals.model_dump(), along)
    for _, group in itertools.groupby(points(study, number), key=_stack_key):
        stack = list(group)
        for start in range(0, len(stack), part.stack):
            chosen = tuple(stack[start : start + part.stack])
            check_memory(len(epochs), sum(map(_size, chosen)))
            yield Shard(chosen, *sections, study.threads)


def _size(point: Point) -> int:
    """Bytes of the model's parameters."""
    return point.model["num_params"] * getattr(torch, point.settings["dtype"]).itemsize


def points(study: Study, number: int = 0) -> list[Point]:
    """Every model of one part; models that can share a stack stand together."""
    part = study.parts[number]
    train, _ = load(part.data.name, **part.data.options)
    shape, classes = tuple(train.inputs.shape[1:]), train.num_classes
    shaped = {variant.label: _model(variant, shape, classes) for variant in part.variants()}
    found: list[Point] = []
    for variant, axes in part.combinations():
        for draw, drawn in _drawn(part, study.seed):
            settings: dict[str, Any] = part.training.settings() | axes | drawn
            if draw is not None and "seed" not in axes:
                settings["seed"] = draw
            recipe = Recipe(
                part.data.name,
                part.data.options,
                settings["n_train"] or len(train),
                settings["label_noise"],
                study.seed,
            )
            settings["learning_rate"] *= variant.family.learning_rate_factor
            names, model = (variant.label, variant.family.label), shaped[variant.label]
            found.append(Point(number, *names, model, recipe.to_dict(), settings, draw))
    _check_sizes(found, len(train), part)
    return sorted(found, key=_stack_order(part))


def _model(variant: Variant, shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """The builder's arguments, tried once: a study must not start with what cannot be built."""
    name, options, place = variant.family.model, dict(variant.options), variant.label
    try:
        with torch.device("meta"):
            module = models.build(name, shape=shape, num_classes=classes, options=options)
    except InputError as error:
        where = f"architectures.{place}: {error.place}"
        raise InputError(where, error.found, error.expected, error.cure) from None
    except TypeError as error:
        raise InputError(
            f"architectures.{place}",
            f"options {options} ({error})",
            "options that the model takes",
            "correct them",
        ) from None
    return {
        "name": name,
        "shape": list(shape),
        "num_classes": classes,
        "options": options,
        "num_params": Layout.of(module).size,
    }


def _drawn(part: Part, seed: int) -> list[tuple[int | None, dict[str, float]]]:
    """The random settings by number; an axis has its own stream, so that adding one keeps them."""
    if part.draws is None:
        return [(None, {})]
    columns: dict[str, list[float]] = {}
    for name, values in part.draws.axes().items():
        stream = generator(seed, "draws", name)
        uniform = torch.rand(part.draws.count, generator=stream, dtype=torch.float64)
        columns[name] = [values.at(quantile) for quantile in uniform.tolist()]
    return [
        (number, {name: column[number] for name, column in columns.items()})
        for number in range(part.draws.count)
    ]


def _stack_key(point: Point) -> tuple[Any, ...]:
    return (point.architecture, *(point.settings[name] for name in SHARED))


def _stack_order(part: Part) -> Any:
    """Architectures in the study's order, then the shared settings; the sort is stable."""
    labels = [variant.label for variant in part.variants()]

    def key(point: Point) -> tuple[Any, ...]:
        label, *shared = _stack_key(point)
        return labels.index(label), *(
            (value is not None, 0 if value is None else value) for value in shared
        )

    return key


def _check_sizes(found: list[Point], available: int, part: Part) -> None:
    for recipe in {point.data["n_train"]: Recipe(**point.data) for point in found}.values():
        count = recipe.n_train or available
        if count > available:
            expected = f"at most the {available} training examples of {recipe.name}"
            raise InputError("n_train", str(count), expected, "choose fewer")
        if part.measures.held_out is not None:
            recipe.held_out_indices(part.measures.held_out)
        held_out_parts(part.rivals.model_dump(), count)


def held_out_parts(rivals: Mapping[str, Any], n_train: int) -> dict[str, list[Stretch]]:
    """What each rival of the study's `[rivals]` holds out of n shuffled training examples.

    Every part stands for one training on the rest: the parts of "cross_validation:k" cover all
    examples, and "validation:s" is the first round(s n) of them, so that the share 1/k is one of
    the folds. Raises `InputError` for a part that would be empty or leave nothing to train on.
    """
    found = {f"validation:{s:g}": [(0, round(s * n_train))] for s in rivals["validation"]}
    if folds := rivals["folds"]:
        bounds = [round(place * n_train / folds) for place in range(folds + 1)]
        found[f"cross_validation:{folds}"] = list(itertools.pairwise(bounds))
    for name, parts in found.items():
        if not all(0 < stop - start < n_train for start, stop in parts):
            raise InputError(
                f"rivals, {name}",
                f"{n_train} training examples",
                "some to hold out and some to train on",
                "choose another share, fewer folds or more examples",
            )
    return found
