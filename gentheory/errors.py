"""The one error for bad input: a sentence that names the place, the value and the cure."""


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
