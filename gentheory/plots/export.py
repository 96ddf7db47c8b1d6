"""Figures and texts to files: the same bytes every time, and never half a file."""

import io
import os
import tempfile
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from gentheory.errors import InputError
from gentheory.plots.style import styled

Format = Literal["svg", "png", "pdf"]

# What matplotlib would write by itself: the date and its own version.
_METADATA: dict[Format, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}


def render(figure: Figure, format: Format, *, dpi: int = 200) -> bytes:
    """The figure as a file's bytes; equal figures give equal bytes. `dpi` is that of a PNG."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format=format, dpi=dpi, metadata=_METADATA[format])
    return buffer.getvalue()


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
