"""Figures and texts to files: the same bytes every time, and never half a file."""

import io
import os
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gentheory.errors import InputError
from gentheory.plots.style import styled

Format = Literal["svg", "png", "pdf"]

# What matplotlib would write by itself: the date and its own version.
_METADATA: dict[Format, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}

_CROWD = 2000
"""Marks of a figure from which on a vector file would be large and slow to open."""


def render(figure: Figure, format: Format, *, dpi: int = 200) -> bytes:
    """The figure as a file's bytes; equal figures give equal bytes. `dpi` is that of a PNG."""
    buffer = io.BytesIO()
    with styled(), _crowds_as_pixels(figure):
        figure.savefig(buffer, format=format, dpi=dpi, metadata=_METADATA[format])
    return buffer.getvalue()


@contextmanager
def _crowds_as_pixels(figure: Figure) -> Generator[None, None, None]:
    """Thousands of marks are drawn as pictures in vector formats, text never."""
    marks = [mark for axes in figure.axes for mark in _marks(axes) if not mark.get_rasterized()]
    changed = marks if _size(marks) > _CROWD else []
    for mark in changed:
        mark.set_rasterized(True)
    try:
        yield
    finally:
        for mark in changed:
            mark.set_rasterized(False)


def _marks(axes: Axes) -> list[Collection | Line2D]:
    return [*axes.collections, *axes.lines]


def _size(marks: Sequence[Collection | Line2D]) -> int:
    """Points of the lines, and points or paths of the collections."""
    return sum(
        len(np.asarray(mark.get_xydata()))
        if isinstance(mark, Line2D)
        else max(len(np.asarray(mark.get_offsets())), len(mark.get_paths()))
        for mark in marks
    )


def save(figure: Figure, path: Path, *, dpi: int = 200) -> Path:
    """Write the figure in the format that the file's suffix names: svg, png or pdf.

    Raises `InputError` for any other suffix.
    """
    formats: dict[str, Format] = {f".{name}": name for name in _METADATA}
    if path.suffix not in formats:
        raise InputError(str(path), f"the suffix {path.suffix!r}", "svg, png or pdf", "rename it")
    return write(path, render(figure, formats[path.suffix], dpi=dpi))


def write(path: Path, content: bytes) -> Path:
    """Replace the file in one step: a reader finds the old content or all of the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path
