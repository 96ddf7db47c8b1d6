"""Where data files lie: the folder named by GENTHEORY_DATA, and what to do without it."""

import os
from pathlib import Path

from gentheory.errors import InputError

VARIABLE = "GENTHEORY_DATA"
CURE = (
    f"set {VARIABLE} (or root) to the folder that holds MNIST/raw and cifar-10-batches-bin, "
    'or use data.name = "digits"'
)


def data_folder(root: str | Path | None = None) -> Path:
    """`root`, or else the folder that the environment variable GENTHEORY_DATA names.

    Raises `InputError` where neither is given or the folder does not exist.
    """
    place = VARIABLE if root is None else "data.root"
    named = os.environ.get(VARIABLE) if root is None else root
    if not named:
        raise InputError(place, "nothing", "the folder with the data", CURE)
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise InputError(place, f"{str(folder)!r}, which is no folder", "an existing folder", CURE)
    return folder


def read_bytes(path: Path) -> bytes:
    """The bytes of a file; `InputError` where it cannot be opened or read."""
    try:
        return path.read_bytes()
    except OSError as error:
        found = f"no readable file ({error.strerror})"
        raise InputError(str(path), found, "a data file", CURE) from error
