"""Files that are written whole or not at all, and what a full disk says."""

import errno
import json
import os
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from gentheory.errors import InputError


class DiskFullError(InputError):
    """No room for the results; what was committed before is untouched."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            str(path),
            "no space left on the device",
            "room for the results",
            "free some space and run the same command again: finished shards are kept",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (Path(self.place),)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Rows as a Parquet file with these columns and SQL types."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(columns))
    casts = ", ".join(f'cast("{name}" as {kind}) as "{name}"' for name, kind in columns.items())
    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        connection.register("frame", frame)
        target = str(path).replace("'", "''")
        connection.execute(f"copy (select {casts} from frame) to '{target}' (format parquet)")


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        aside.write_text(json.dumps(record, allow_nan=False))
        sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none, or where it is damaged."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


@contextmanager
def full_disk(path: Path) -> Generator[None, None, None]:
    """Turn the ways in which libraries say that a disk is full into one `InputError`."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        texts = ("No space left", "File too large", "Could not write")
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or (
            not isinstance(error, InputError) and any(text in str(error) for text in texts)
        ):
            raise DiskFullError(path) from error
        raise


def sync(path: Path) -> None:
    """Have the file or folder on the disk, not in a buffer, before this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
