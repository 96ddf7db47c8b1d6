"""From a study to its models and shards, each named by the hash of what it is."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property, partial
from typing import Any

import torch

from gentheory import models
from gentheory.data import load
from gentheory.data.imbalance import Imbalance
from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.params import Layout
from gentheory.study.conditions import resolved
from gentheory.study.digest import digest
from gentheory.study.part import Part
from gentheory.study.sampling import drawn
from gentheory.study.settings import OWN, SHARED, VARIED, Variant
from gentheory.study.spec import Study
from gentheory.training.recorder import trajectory_numbers
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

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits."""
        return digest({field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True)
class Shard:
    """A stack of points trained and measured together: the unit that is committed."""

    points: tuple[Point, ...]
    measures: Mapping[str, Any]  # the study's [measures]
    rivals: Mapping[str, Any]  # the study's [rivals]
    checkpoints: Mapping[str, Any]  # epochs along training, whether to keep the weights, and
    # how many examples to validate and to test on
    threads: int

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits: of the shard's content alone."""
        first = self.points[0]
        # What a stack has in common is hashed once: ten times faster than the points' own names.
        common = [first.part, first.architecture, first.family, first.model, first.data]
        shared = {name: first.settings[name] for name in SHARED}
        own = [[p.draw, *map(p.settings.__getitem__, OWN)] for p in self.points]
        sections = [self.measures, self.rivals, self.checkpoints, self.threads]
        return digest([common, shared, own, *sections])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a worker in another process."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Shard":
        """The inverse of `to_dict`."""
        fields: dict[str, Any] = {**record}
        fields["points"] = tuple(Point(**point) for point in record["points"])
        return cls(**fields)


def shards(study: Study) -> list[Shard]:
    """All shards in the order of the study: the same study gives the same shards anywhere.

    Raises as `each_shard` does.
    """
    return list(each_shard(study))


def each_shard(study: Study) -> Iterator[Shard]:
    """One shard after the other, so that a million models need not be in memory at once.

    Raises `InputError` where the data cannot be loaded, an architecture cannot be built for
    them, more training examples are asked for than there are, or the checkpoints of a stack would
    take too much memory.
    """
    for number, part in enumerate(study.parts):
        epochs, keep = part.training.checkpoints, part.training.keep_checkpoints
        looks = {"validation": part.training.validation, "test": part.training.test}
        along = {"epochs": epochs, "keep": keep, **looks}
        sections = (part.measures.model_dump(), part.rivals.model_dump(), along)
        for stack in _stacks(study, number):
            models, size = stack.points(), part.stack_of(stack.common["family"])
            while chosen := tuple(itertools.islice(models, size)):
                if epochs:
                    check_memory(len(epochs), sum(map(_size, chosen)))
                yield Shard(chosen, *sections, study.threads)


def _size(point: Point) -> int:
    """Bytes of the model's parameters, with the trajectory if it is kept."""
    numbers = size = point.model["num_params"]
    if point.settings["keep_trajectory"]:
        examples, outputs = point.data["n_train"], point.model["num_classes"]
        numbers += trajectory_numbers(point.settings["epochs"], examples, outputs, size)
    return numbers * getattr(torch, point.settings["dtype"]).itemsize


def points(study: Study, number: int = 0) -> list[Point]:
    """Every model of one part; models that can share a stack stand together."""
    return [point for stack in _stacks(study, number) for point in stack.points()]


@dataclass(frozen=True)
class _Stack:
    """Models that can be trained together; small, even for a million, until they are asked for."""

    common: Mapping[str, Any]  # of a Point, but for what follows
    shared: Mapping[str, Any]  # settings; in their order, so are the models' own
    own: dict[tuple[Any, ...], int | None]  # the values of each model's own settings: its draw

    def points(self) -> Iterator[Point]:
        for values, draw in self.own.items():
            settings = {**self.shared, **dict(zip(OWN, values, strict=True))}
            yield Point(**self.common, settings=settings, draw=draw)


def _stacks(study: Study, number: int) -> list[_Stack]:
    """All models of a part, in the order of the architectures and then of the shared settings.

    A model that is reached in several ways is there once, and so are those that differ only in
    what their methods do not read.
    """
    part = study.parts[number]
    train, _ = load(part.data.name, **part.data.options)
    shape, classes = tuple(train.inputs.shape[1:]), train.num_classes
    variants = part.variants()
    shaped = {variant.label: _model(variant, shape, classes) for variant in variants}
    places = {variant.label: place for place, variant in enumerate(variants)}
    found: dict[tuple[Any, ...], _Stack] = {}
    default, draws = part.training.settings(), _drawn(part, study.seed)
    available = cache(partial(_available, part, study.seed))
    for variant, axes in part.combinations():
        for draw, values in draws:
            chosen: dict[str, Any] = {**default, **values, **axes}
            part.settle(variant, chosen)
            settings = resolved(chosen)
            for name in _RATES:
                if settings[name] is not None:
                    settings[name] *= variant.family.learning_rate_factor
            key = (places[variant.label], *map(settings.__getitem__, VARIED))
            if key not in found:
                recipe = _recipe(part, study.seed, settings, available)
                common = {
                    "part": number,
                    "architecture": variant.label,
                    "family": variant.family.label,
                    "model": shaped[variant.label],
                    "data": recipe.to_dict(),
                }
                found[key] = _Stack(common, {name: settings[name] for name in SHARED}, {})
            found[key].own.setdefault(tuple(map(settings.__getitem__, OWN)), draw)
    return [found[key] for key in sorted(found, key=_order)]


_RATES = ("learning_rate", "pof_learning_rate")


def _order(key: tuple[Any, ...]) -> Any:
    """A setting that is not given comes before those that are."""
    return [(value is not None, 0 if value is None else value) for value in key]


def _recipe(
    part: Part, seed: int, settings: Mapping[str, Any], available: Callable[..., int]
) -> Recipe:
    """The data of a stack. Raises `InputError` where there are fewer examples than it takes."""
    imbalance = settings["imbalance"], settings["imbalance_ratio"]
    most = available(*imbalance)
    name, options, noise = part.data.name, part.data.options, settings["label_noise"]
    recipe = Recipe(name, options, settings["n_train"] or most, noise, seed, *imbalance)
    _check_sizes(recipe, most, part)
    return recipe


def _available(part: Part, seed: int, imbalance: Imbalance, ratio: float) -> int:
    """How many training examples there are with this imbalance."""
    name, options = part.data.name, part.data.options
    recipe = Recipe(name, options, seed=seed, imbalance=imbalance, imbalance_ratio=ratio)
    return recipe.available()


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


def _drawn(part: Part, seed: int) -> list[tuple[int | None, dict[str, Any]]]:
    """The random settings by number; each has seeds of its own unless the study gives them."""
    if part.draws is None:
        return [(None, {})]
    repeats = part.draws.repeats
    return [
        (number, {"seed": number * repeats + again, **values})
        for number, values in enumerate(drawn(part.draws, seed))
        for again in range(repeats)
    ]


def _check_sizes(recipe: Recipe, available: int, part: Part) -> None:
    count = recipe.n_train or available
    if count > available:
        expected = f"at most the {available} training examples of {recipe.described()}"
        raise InputError("n_train", str(count), expected, "choose fewer")
    if part.measures.held_out is not None:
        recipe.held_out_indices(part.measures.held_out)
    if part.training.validation is not None:
        recipe.with_following(part.training.validation).indices()
    if (part.training.test or 0) > (most := recipe.num_test()):
        found, expected = f"{part.training.test} examples", f"at most the {most} there are"
        raise InputError("training.test", found, expected, "choose fewer")
    if (part.measures.examples or 0) > count:
        found, expected = f"{part.measures.examples} examples", f"at most the {count} trained on"
        raise InputError("measures.examples", found, expected, "choose fewer")
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
