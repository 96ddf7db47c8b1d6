"""Checks of builders' options: a study's file may hold anything."""

from collections.abc import Collection

from gentheory.errors import InputError


def at_least_one(place: str, value: int) -> None:
    """Raise `InputError` unless the value is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(place, repr(value), "a whole number of at least 1", "give 1 or more")


def yes_or_no(place: str, value: bool) -> None:
    """Raise `InputError` unless the value is a truth value."""
    if not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(place, repr(value), "true or false", "give one of the two")


def one_of(place: str, value: str | int, known: Collection[str | int]) -> None:
    """Raise `InputError` unless the value is among the known ones."""
    # By type too: True is no 1, and what cannot be hashed is no key.
    if not any(type(value) is type(choice) and value == choice for choice in known):
        names = [repr(choice) for choice in known]
        expected = " or ".join(names) if len(names) == 2 else f"one of {', '.join(names)}"
        raise InputError(place, repr(value), expected, "choose one")


def images(place: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width. Raises `InputError` for inputs that are no images."""
    if len(shape) != 3:
        raise InputError(
            place, f"inputs of shape {shape}", "images (channels, height, width)", "use model 'mlp'"
        )
    return shape
