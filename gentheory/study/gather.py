"""Tables of many shards in few files, so that a question to a million models opens few.

    DIR/cache/TABLE-KEY.parquet    the rows of up to `BLOCK` committed shards, in the study's order

The key is a hash of the shards' names and of the sizes of their files, so that a file is either
right or not asked for. All of it is derived: it may be deleted at any time, two processes may
make it at once, and where it cannot be written the shards are read instead.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import duckdb

from gentheory.errors import InputError
from gentheory.study.catalogue import Commit, commits
from gentheory.study.digest import digest

if TYPE_CHECKING:
    import pandas as pd  # half of the time that a small query would take

BLOCK = 256
"""Planned shards that share a file: neighbours in the study's order, so that it need not change."""
FEWEST = 32
"""Committed shards of a block that are worth a file of their own."""
UNREADABLE = (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException)
"""What DuckDB raises for a file that is missing, cut short or no Parquet file; it is named."""

T = TypeVar("T")


def table(
    folder: Path, name: str, planned: Iterable[str], done: Mapping[str, Commit]
) -> "pd.DataFrame":
    """All rows of one table, in the order of the plan and of the rows in each shard.

    Empty where no shard has such a table.
    Raises `InputError` where no shard is committed, or where a shard's file cannot be read.
    """

    def read(files: Mapping[str, Sequence[str]]) -> "pd.DataFrame":
        if not files[name]:
            import pandas as pd

            return pd.DataFrame()
        with duckdb.connect() as connection:
            # One read over all files: DuckDB keeps the order of the list and of the rows.
            return connection.execute("select * from read_parquet(?)", [files[name]]).df()

    return reading(folder, [name], planned, done, read)


def reading(
    folder: Path,
    names: Sequence[str],
    planned: Iterable[str],
    done: Mapping[str, Commit],
    read: Callable[[Mapping[str, Sequence[str]]], T],
) -> T:
    """What `read` makes of the files that hold these tables: gathered ones, or else the shards.

    Raises `InputError` as `table` does, and whatever else `read` raises.
    """
    if not done:
        raise nothing(folder)
    blocks = [*_blocks(planned, done)]
    try:
        return read({name: _gathered(folder, name, blocks, done) for name in names})
    except UNREADABLE as error:
        if f"{folder}/" not in str(error):
            raise
        discard(folder)
    try:
        return read({name: _own_files(folder, name, done, done) for name in names})
    except UNREADABLE as error:
        if f"{folder}/" not in str(error):
            raise
        raise InputError(
            f"{folder}/shards",
            f"a damaged {' or '.join(names)}.parquet ({str(error).splitlines()[0]})",
            "whole shards",
            "delete the shard that is named and run the study again",
        ) from error


def nothing(folder: Path) -> InputError:
    """There is no table without a finished shard."""
    return InputError(str(folder), "no finished shard", "at least one", "run the study first")


def extend(folder: Path, names: Sequence[str], planned: Sequence[str], shard: str) -> None:
    """Gather the block of a shard that was just committed, if it was the last of its block."""
    start = planned.index(shard) // BLOCK * BLOCK
    block = planned[start : start + BLOCK]
    if len(block) < FEWEST or not all(os.path.isdir(folder / "shards" / s) for s in block):
        return
    done = commits(folder, block)
    for name in names:
        _block_files(folder, name, [*done], done)


def discard(folder: Path) -> None:
    """Delete all gathered files; whoever reads one just then falls back on the shards."""
    for file in (folder / "cache").glob("*.parquet"):
        file.unlink(missing_ok=True)


def _blocks(planned: Iterable[str], done: Mapping[str, Commit]) -> Iterator[list[str]]:
    """Committed shards of each block; the blocks are of the plan, whatever is committed."""
    shards = list(planned)
    for start in range(0, len(shards), BLOCK):
        if committed := [shard for shard in shards[start : start + BLOCK] if shard in done]:
            yield committed


def _gathered(
    folder: Path, name: str, blocks: Sequence[list[str]], done: Mapping[str, Commit]
) -> list[str]:
    files = [file for block in blocks for file in _block_files(folder, name, block, done)]
    for stale in {str(file) for file in (folder / "cache").glob(f"{name}-*.parquet")} - {*files}:
        Path(stale).unlink(missing_ok=True)
    return files


def _block_files(
    folder: Path, name: str, block: Sequence[str], done: Mapping[str, Commit]
) -> Sequence[str]:
    """The one file that holds the block's rows, made now unless it is there, or the shards'."""
    own = _own_files(folder, name, block, done)
    if len(own) < FEWEST:
        return own
    key = digest([[shard, done[shard].sizes.get(f"{name}.parquet")] for shard in block])
    file = folder / "cache" / f"{name}-{key}.parquet"
    if not file.exists():
        try:
            _merge(own, file)
        except (OSError, duckdb.Error):
            return own
    return [str(file)]


def _own_files(
    folder: Path, name: str, shards: Iterable[str], done: Mapping[str, Commit]
) -> list[str]:
    """Those of these shards that have such a table."""
    file = f"{name}.parquet"
    return [f"{folder}/shards/{shard}/{file}" for shard in shards if file in done[shard].sizes]


def _merge(files: Sequence[str], target: Path) -> None:
    """The rows of these files, in this order, as one file: there whole or not at all."""
    target.parent.mkdir(exist_ok=True)
    aside = target.with_suffix(f".{uuid.uuid4().hex[:8]}.tmp")
    try:
        with duckdb.connect() as connection:
            connection.execute("set threads = 1")
            connection.read_parquet(list(files)).write_parquet(str(aside))
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
