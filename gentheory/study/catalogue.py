"""Which shards of a study are committed, told quickly for studies of a million models."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Commit:
    """A committed shard."""

    sizes: Mapping[str, int]
    """Bytes of each of its files."""
    time: float
    """When it was committed, in seconds since the epoch by the clock of the file system."""


def commits(folder: Path, planned: Iterable[str]) -> dict[str, Commit]:
    """The planned shards in a study's folder whose files are all there and whole, in this order.

    A file is whole if it has the size it was written with. The folder is listed once, and what
    is not in it costs nothing more.
    """
    shards = os.path.join(folder, "shards")
    try:
        there = set(os.listdir(shards))
    except OSError:
        return {}
    found = ((shard, commit(f"{shards}/{shard}")) for shard in planned if shard in there)
    return {shard: each for shard, each in found if each is not None}


def commit(shard: str) -> Commit | None:
    """The commit in this shard's folder; None where it is missing or damaged."""
    # Plain system calls: pathlib would take most of the time of `gentheory status`.
    try:
        with open(f"{shard}/shard.json", "rb") as file:
            time = os.fstat(file.fileno()).st_mtime
            sizes = json.loads(file.read())["sizes"]
        whole = all(os.stat(f"{shard}/{name}").st_size == size for name, size in sizes.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return Commit(sizes, time) if whole else None
