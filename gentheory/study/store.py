"""A study is a folder, and its files are the truth.

    DIR/study.json                what the study is, and its shards by name and size
    DIR/shards/ID/                committed shards: tables (Parquet), weights, and shard.json
    DIR/inflight/ID.NONCE/        shards being made: progress.json, and what is ready
    DIR/inflight/ID.NONCE.json    who makes it: there before the folder, and until it is committed
    DIR/failures/ID.json          why a shard failed the last time
    DIR/runs/ID.json              when, where and with which versions the study was run

A shard is written aside and committed by one rename, so it is there whole or not at all. To
resume is to do the planned shards that are not committed; to do one twice is harmless.
"""

import errno
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from gentheory.errors import InputError
from gentheory.study import plan
from gentheory.study.spec import Study, parse

FORMAT = 1
TABLES = ("models", "measures", "curves", "costs")
TABLES_ALONG = ("trajectory", "measures_along")
"""Tables of shards with checkpoints along training; empty where no shard has any."""
OWNER_SILENT_AFTER = 120.0
"""Seconds without a sign of life after which a shard in flight on another host counts as lost."""


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


@dataclass(frozen=True)
class InFlight:
    """A shard that some process works on, or worked on until it was stopped."""

    shard: str
    path: Path
    owner: Mapping[str, Any]
    progress: Mapping[str, Any]
    alive: bool


@dataclass(frozen=True)
class Store:
    """A study's folder."""

    path: Path
    study: Study
    sizes: Mapping[str, int]
    """Models in each planned shard, in the study's order: known without the data."""

    @classmethod
    def create(cls, path: Path, study: Study) -> "Store":
        """The folder of this study, new or begun. Raises `InputError` if another study is there."""
        description = path / "study.json"
        # Looked at first: another runner may be writing the description of this very study.
        foreign = _foreign(path)
        if description.exists():
            found = cls.open(path)
            if found.study == study:
                return found
            if found.study.model_copy(update={"report": study.report}) != study:
                raise InputError(
                    str(path),
                    f"the study {found.study.name!r} with another specification",
                    f"an empty folder, or this very study {study.name!r}",
                    "choose another --out, or delete the folder if its models are not needed",
                )
            # What the report is about may be chosen later: no model depends on it.
            return cls._describe(path, study, found.sizes)
        if foreign:
            raise InputError(
                str(path), "files that no study wrote", "an empty folder", "choose another --out"
            )
        sizes = {shard.id: len(shard.points) for shard in plan.shards(study)}
        return cls._describe(path, study, sizes)

    @classmethod
    def _describe(cls, path: Path, study: Study, sizes: Mapping[str, int]) -> "Store":
        record = {"format": FORMAT, "study": study.model_dump(mode="json"), "shards": sizes}
        with full_disk(path):
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "study.json", record)
        return cls(path, study, sizes)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """The study in this folder. Raises `InputError` if there is none."""
        description = path / "study.json"
        record = read_json(description)
        whole = record is not None and record.keys() >= {"study", "shards"}
        if record is None or record.get("format") != FORMAT or not whole:
            raise InputError(
                str(path),
                "no study.json" if not description.exists() else "a damaged study.json",
                "the folder of a study",
                "give the folder that `gentheory run` printed",
            )
        return cls(path, parse(record["study"], place=str(description)), record["shards"])

    def is_done(self, shard: str) -> bool:
        """Whether the shard is committed and its files have the sizes they were written with."""
        folder = self.path / "shards" / shard
        sizes = (read_json(folder / "shard.json") or {}).get("sizes")
        if not isinstance(sizes, dict):
            return False
        return all(_size(folder / name) == size for name, size in sizes.items())

    def done(self) -> list[str]:
        """The planned shards that are committed."""
        return [shard for shard in self.sizes if self.is_done(shard)]

    def missing(self) -> list[plan.Shard]:
        """The planned shards that are not committed, ready to be done; loads the data.

        Raises `InputError` where this version of gentheory, or the data, plan other shards than
        those the folder was made for.
        """
        done, planned = set(self.done()), plan.shards(self.study)
        if [shard.id for shard in planned] != list(self.sizes):
            raise InputError(
                str(self.path),
                "a study planned by another version of gentheory, or for other data",
                "the shards that this version plans",
                "choose another --out, or go on with the version that began it",
            )
        return [shard for shard in planned if shard.id not in done]

    @contextmanager
    def writing(self, shard: str) -> Generator[Path, None, None]:
        """A private folder that becomes the shard when the block ends well, and goes otherwise."""
        nonce = uuid.uuid4().hex[:12]
        folder = self.path / "inflight" / f"{shard}.{nonce}"
        try:
            with full_disk(self.path):
                folder.parent.mkdir(exist_ok=True)
                write_json(_owner_file(folder), _owner())
                folder.mkdir()
                yield folder
                self._commit(shard, folder)
        finally:
            _forget(folder)

    def _commit(self, shard: str, folder: Path) -> None:
        (folder / "progress.json").unlink(missing_ok=True)
        record = {"sizes": {file.name: file.stat().st_size for file in sorted(folder.iterdir())}}
        for file in folder.iterdir():
            _sync(file)
        write_json(folder / "shard.json", record)
        target = self.path / "shards" / shard
        target.parent.mkdir(exist_ok=True)
        if target.exists() and not self.is_done(shard):
            shutil.rmtree(target)
        try:
            folder.rename(target)
        except OSError as error:
            # Somebody else was first with the same shard, which holds the same.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        _sync(target.parent)
        (self.path / "failures" / f"{shard}.json").unlink(missing_ok=True)

    def fail(self, shard: str, reason: str) -> None:
        """Note why a shard failed; the next run tries it again."""
        folder = self.path / "failures"
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{shard}.json", {"reason": reason, "time": time.time()})

    def failures(self) -> dict[str, str]:
        """Reasons by shard, of planned shards that are not done."""
        found: dict[str, str] = {}
        for shard in self.sizes:
            record = read_json(self.path / "failures" / f"{shard}.json")
            if record is not None and not self.is_done(shard):
                found[shard] = record["reason"]
        return found

    def inflight(self) -> list[InFlight]:
        """Shards being made, and what stopped processes left behind (`alive` is False)."""
        found: list[InFlight] = []
        for file in sorted((self.path / "inflight").glob("*.*.json")):
            owner, folder = read_json(file), file.with_suffix("")
            if owner is not None:  # committed since the folder was listed
                progress = read_json(folder / "progress.json") or {}
                shard, alive = folder.name.split(".")[0], _alive(folder, owner)
                found.append(InFlight(shard, folder, owner, progress, alive))
        return found

    def sweep(self) -> None:
        """Remove what stopped processes left behind."""
        for item in self.inflight():
            if not item.alive:
                _forget(item.path)

    def note_run(self, run: str, record: Mapping[str, Any]) -> None:
        """Keep what is known of one run of the study: times, command, versions, machine."""
        folder = self.path / "runs"
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{run}.json", record)

    def runs(self) -> list[dict[str, Any]]:
        """All runs, oldest first."""
        found = [read_json(file) for file in (self.path / "runs").glob("*.json")]
        return sorted((r for r in found if r is not None), key=lambda record: record["started"])

    def table(self, name: str) -> pd.DataFrame:
        """One of `TABLES`, or of `TABLES_ALONG`, over all committed shards of the plan.

        Rows are in the study's order: the same shards give the same table, whoever made them and
        when. Raises `InputError` where none is committed yet, or where a file cannot be read.
        """
        done = self.done()
        if not done:
            raise InputError(
                str(self.path), "no finished shard", "at least one", "run the study first"
            )
        paths = [self.path / "shards" / shard / f"{name}.parquet" for shard in done]
        files = [str(path) for path in paths if name in TABLES or path.exists()]
        if not files:
            return pd.DataFrame()
        try:
            with duckdb.connect() as connection:
                # One read over all files: DuckDB keeps the order of the list and of the rows.
                return connection.execute("select * from read_parquet(?)", [files]).df()
        except duckdb.Error as error:
            raise InputError(
                f"{self.path}/shards",
                f"a damaged {name}.parquet ({str(error).splitlines()[0]})",
                "whole shards",
                "delete the shard that is named and run the study again",
            ) from error


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Rows as a Parquet file with these columns and SQL types."""
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
        _sync(aside)
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


def _owner() -> dict[str, Any]:
    pid = os.getpid()
    return {"pid": pid, "host": socket.gethostname(), "born": _born(pid), "started": time.time()}


def _alive(folder: Path, owner: Mapping[str, Any]) -> bool:
    """Whether the owner still runs: asked of the kernel here, judged by its last word elsewhere."""
    if owner.get("host") == socket.gethostname():
        try:
            os.kill(owner["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _born(owner["pid"]) == owner.get("born", "")
    last = max(map(_modified, (_owner_file(folder), *folder.glob("*.json"))))
    return time.time() - last < OWNER_SILENT_AFTER


def _owner_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _forget(folder: Path) -> None:
    """The folder first: whatever is left has an owner that can be asked after."""
    shutil.rmtree(folder, ignore_errors=True)
    _owner_file(folder).unlink(missing_ok=True)


def _born(pid: int) -> str:
    """When the process was started, in the kernel's ticks: its number may be given to another.

    Empty for a process that is over, and where the kernel does not tell.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in "XZ" else fields[18]


def _foreign(path: Path) -> bool:
    """Whether there is anything but a study's description there, whole or half-written."""
    if not path.exists():
        return False
    return not path.is_dir() or any(not f.name.startswith("study.json") for f in path.iterdir())


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
