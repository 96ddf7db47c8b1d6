"""Data by name: `load("digits")` gives a training and a test part."""

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from gentheory.data.cifar import cifar10
from gentheory.data.corruptions import label_noise, subset
from gentheory.data.digits import digits
from gentheory.data.environments import (
    colored_mnist,
    colored_mnist_shifted,
    rotated_mnist,
    rotated_mnist_shifted,
)
from gentheory.data.files import VARIABLE
from gentheory.data.idx import mnist, read_idx
from gentheory.data.split import Split
from gentheory.data.synthetic import class_means, direction, gaussian_classes, polynomial
from gentheory.errors import InputError

LOADERS = (
    *("cifar10", "colored_mnist", "digits", "gaussian_classes", "mnist", "polynomial"),
    "rotated_mnist",
)

__all__ = [
    "LOADERS",
    "Split",
    "cifar10",
    "class_means",
    "colored_mnist",
    "colored_mnist_shifted",
    "digits",
    "direction",
    "gaussian_classes",
    "label_noise",
    "load",
    "load_shifted",
    "mnist",
    "polynomial",
    "read_idx",
    "rotated_mnist",
    "rotated_mnist_shifted",
    "subset",
]


def load(name: str, /, **options: object) -> tuple[Split, Split]:
    """(train, test) from the loader `name`, one of `LOADERS`, with that loader's options.

    A repeated call in one process returns the same objects: never change their tensors in place.
    Raises `InputError` for an unknown name, for an option that the loader does not take, lacks or
    cannot use, and as the loader itself does.

    >>> train, test = load("digits")
    >>> len(train), len(test), tuple(train.shape)
    (1200, 597, (1, 8, 8))
    """
    checked = _checked(name, options)
    return _load(name, tuple(sorted(checked.items())), os.environ.get(VARIABLE))


def load_shifted(name: str, /, **options: object) -> Split | None:
    """The examples of an environment that the loader `name` keeps out of training and test.

    None where it has no such environment. Options, sharing and errors are those of `load`.
    """
    checked = _checked(name, options)
    if f"{name}_shifted" not in __all__:
        return None
    return _load(f"{name}_shifted", tuple(sorted(checked.items())), os.environ.get(VARIABLE))


def _loader(name: str) -> Callable[..., Any]:
    return getattr(sys.modules[__name__], name)


@lru_cache(maxsize=8)
def _load(name: str, options: tuple[tuple[str, object], ...], _folder: str | None) -> Any:
    # The folder is here for the cache's key alone: another folder is other data.
    return _loader(name)(**dict(options))


def _checked(name: str, options: Mapping[str, object]) -> dict[str, object]:
    if name not in LOADERS:
        raise InputError("data.name", repr(name), f"one of {', '.join(LOADERS)}", "use one of them")
    parameters = inspect.signature(_loader(name)).parameters
    for option in options:
        if option not in parameters:
            expected = f"{name} to take only {', '.join(parameters)}"
            raise InputError(f"data.{option}", "this option", expected, "drop it")
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            expected = f"a value, as {name} needs one"
            raise InputError(f"data.{option}", "nothing", expected, "give it")
    return {option: _typed(option, options[option], parameters[option]) for option in options}


def _typed(option: str, value: object, parameter: inspect.Parameter) -> object:
    """The value, if it has the parameter's type; a whole number may stand for a real one."""
    kind = parameter.annotation
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    expected = f"a value of type {inspect.formatannotation(kind)}"
    raise InputError(f"data.{option}", repr(value), expected, "change it")
