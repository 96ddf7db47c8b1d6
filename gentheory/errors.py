"""The one error for bad input: a sentence that names the place, the value and the cure."""

import math


class InputError(ValueError):
    """Something the user handed in cannot be used.

    The message is one sentence in four parts, so that nobody has to read a traceback:
    where it happened, what was found there, what was expected, and what to do about it.

    >>> str(InputError("grid.width", "-3", "a whole number of at least 1", "give 1 or more"))
    'grid.width: found -3, expected a whole number of at least 1; give 1 or more.'
    """

    def __init__(self, place: str, found: str, expected: str, cure: str) -> None:
        self.place, self.found, self.expected, self.cure = place, found, expected, cure
        super().__init__(f"{place}: found {found}, expected {expected}; {cure}.")

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, str, str]]:
        return type(self), (self.place, self.found, self.expected, self.cure)


def check_positive(place: str, number: float) -> None:
    """Raise `InputError` unless the number is above 0 and finite."""
    if not 0 < number < math.inf:
        raise InputError(place, str(number), "a number above 0", "change it")


def check_at_least(place: str, number: int, least: int) -> None:
    """Raise `InputError` for a number below the least."""
    if number < least:
        raise InputError(place, str(number), f"at least {least}", "give more")
