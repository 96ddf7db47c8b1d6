"""A study is a folder, and its files are the truth.

    DIR/study.json                what the study is, and its shards by name and size
    DIR/shards/ID/                committed shards: tables (Parquet), weights, those along training
                                  as weights.step-N.safetensors, and shard.json
    DIR/inflight/ID.NONCE/        shards being made: progress.json, and what is ready
    DIR/inflight/ID.NONCE.json    who makes it: there before the folder, and until it is committed
    DIR/failures/ID.json          why a shard failed the last time
    DIR/attempts/ID.json          attempts at a shard that failed, and models that were given up
    DIR/pieces/ID/                parts of a shard whose failing model is looked for
    DIR/runs/ID.json              when, where and with which versions the study was run
    DIR/cache/                    tables of many shards in few files: may be deleted at any time

A shard is written aside and committed by one rename, so it is there whole or not at all. To
resume is to do the planned shards that are not committed; to do one twice is harmless.
"""

import errno
import shutil
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gentheory.errors import InputError
from gentheory.study import catalogue, gather, owner
from gentheory.study.catalogue import Commit
from gentheory.study.files import full_disk, read_json, sync, write_json
from gentheory.study.spec import Study, parse

if TYPE_CHECKING:
    # Slow to load, and whoever only looks needs neither.
    import pandas as pd

    from gentheory.study import plan

FORMAT = 2
TABLES = ("models", "measures", "curves", "costs")
TRACE = "trace.txt"
"""Where the process that makes a shard would say how it died."""
TABLES_ALONG = ("trajectory", "measures_along")
"""Tables of shards with checkpoints along training; empty where no shard has any."""


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
    specification: Mapping[str, Any]
    """The study in plain values, as it was when the folder was made."""
    sizes: Mapping[str, int]
    """Models in each planned shard, in the study's order: known without the data."""

    @property
    def name(self) -> str:
        """The study's."""
        return str(self.specification["name"])

    @cached_property
    def study(self) -> Study:
        """The study, checked when it is first asked for: counts need it as little as tables do.

        Raises `InputError` if this version of gentheory does not know what it says.
        """
        return parse(dict(self.specification), place=str(self.path / "study.json"))

    @classmethod
    def create(cls, path: Path, study: Study) -> "Store":
        """The folder of this study, new or begun. Raises `InputError` if another study is there."""
        from gentheory.study import plan, stacks

        description = path / "study.json"
        # Looked at first: another runner may be writing the description of this very study.
        foreign = _foreign(path)
        if description.exists():
            found = cls.open(path)
            study = stacks.settled(study, found.study)
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
        study = stacks.chosen(study)
        sizes = {shard.id: len(shard.points) for shard in plan.each_shard(study)}
        return cls._describe(path, study, sizes)

    @classmethod
    def _describe(cls, path: Path, study: Study, sizes: Mapping[str, int]) -> "Store":
        specification = study.model_dump(mode="json")
        record = {"format": FORMAT, "study": specification, "shards": sizes}
        with full_disk(path):
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "study.json", record)
        return cls(path, specification, sizes)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """The study in this folder. Raises `InputError` if there is none."""
        description = path / "study.json"
        record = read_json(description)
        if record is not None and record.get("format", FORMAT) != FORMAT:
            raise InputError(
                str(path),
                f"a study's folder of format {record['format']}",
                f"format {FORMAT}",
                "use the version of gentheory that made it, or run the study again elsewhere",
            )
        if record is None or not record.keys() >= {"format", "study", "shards"}:
            raise InputError(
                str(path),
                "no study.json" if not description.exists() else "a damaged study.json",
                "the folder of a study",
                "give the folder that `gentheory run` printed",
            )
        return cls(path, record["study"], record["shards"])

    def is_done(self, shard: str) -> bool:
        """Whether the shard is committed and its files have the sizes they were written with."""
        return catalogue.commit(str(self.path / "shards" / shard)) is not None

    def commits(self) -> dict[str, Commit]:
        """The planned shards that are committed, in the study's order."""
        return catalogue.commits(self.path, self.sizes)

    def done(self) -> list[str]:
        """The planned shards that are committed."""
        return list(self.commits())

    def missing(self) -> "list[plan.Shard]":
        """The planned shards that are not committed, ready to be done; loads the data.

        Raises `InputError` where this version of gentheory, or the data, plan other shards than
        those the folder was made for.
        """
        from gentheory.study import plan

        done, planned, missing = self.commits(), list[str](), list[plan.Shard]()
        for shard in plan.each_shard(self.study):
            planned.append(shard.id)
            if shard.id not in done:
                missing.append(shard)
        if planned != list(self.sizes):
            raise InputError(
                str(self.path),
                "a study planned by another version of gentheory, or for other data",
                "the shards that this version plans",
                "choose another --out, or go on with the version that began it",
            )
        return missing

    @contextmanager
    def writing(
        self, shard: str, *, nonce: str | None = None, piece: str | None = None
    ) -> Generator[Path, None, None]:
        """A private folder that becomes the shard when the block ends well, and goes otherwise.

        With `piece` it becomes a piece of the shard, in a folder beside the shards.
        """
        folder = self.inflight_folder(shard, nonce or uuid.uuid4().hex[:12])
        try:
            with full_disk(self.path):
                folder.parent.mkdir(exist_ok=True)
                write_json(_owner_file(folder), owner.owner())
                folder.mkdir()
                with owner.beating(_owner_file(folder)):
                    yield folder
                if piece is None:
                    self._commit(shard, folder)
                else:
                    self.pieces(shard)._commit(piece, folder)
        finally:
            _forget(folder)

    def inflight_folder(self, shard: str, nonce: str) -> Path:
        """Where a shard is made under this nonce."""
        return self.path / "inflight" / f"{shard}.{nonce}"

    def was_begun(self, shard: str, nonce: str) -> bool:
        """Whether some process began to make it under this nonce, and did not end in order."""
        return _owner_file(self.inflight_folder(shard, nonce)).exists()

    def forget(self, shard: str, nonce: str) -> None:
        """Remove what an attempt under this nonce has left, of which nobody will make any more."""
        _forget(self.inflight_folder(shard, nonce))

    def pieces(self, shard: str) -> "Store":
        """Stacks of fewer models that will make up the shard, as shards of a folder of their own.

        In flight they stand in this folder, as the shard that they are for.
        """
        return replace(self, path=self.path / "pieces" / shard)

    def _commit(self, shard: str, folder: Path) -> None:
        for name in ("progress.json", TRACE):
            (folder / name).unlink(missing_ok=True)
        record = {"sizes": {file.name: file.stat().st_size for file in sorted(folder.iterdir())}}
        for file in folder.iterdir():
            sync(file)
        write_json(folder / "shard.json", record)
        target = self.path / "shards" / shard
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not self.is_done(shard):
            shutil.rmtree(target)
        try:
            folder.rename(target)
        except OSError as error:
            # Somebody else was first with the same shard, which holds the same.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        sync(target.parent)
        (self.path / "failures" / f"{shard}.json").unlink(missing_ok=True)

    def fail(self, shard: str, reason: str) -> None:
        """Note why a shard failed; the next run tries it again."""
        folder = self.path / "failures"
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{shard}.json", {"reason": reason, "time": time.time()})

    def failures(self) -> dict[str, str]:
        """Reasons by shard, of planned shards that are not done."""
        done = self.commits()
        return {shard: why for shard, why in self.noted_failures().items() if shard not in done}

    def noted_failures(self) -> dict[str, str]:
        """Reasons by planned shard, of whatever failed once and is not yet known to be done."""
        folder = self.path / "failures"
        there = {file.name for file in folder.iterdir()} if folder.is_dir() else set[str]()
        noted = (shard for shard in self.sizes if f"{shard}.json" in there)
        found = {shard: read_json(folder / f"{shard}.json") for shard in noted}
        return {shard: record["reason"] for shard, record in found.items() if record is not None}

    def note_attempt(self, shard: str, models: Sequence[str], reason: str) -> None:
        """Note that an attempt at these models of the shard failed, and why."""
        self._note(shard, "attempts", {"models": list(models), "reason": reason})

    def note_given_up(self, shard: str, model: str, reason: str) -> None:
        """Note that the shard is committed without this model, and why."""
        self._note(shard, "given_up", {"model": model, "reason": reason})

    def _note(self, shard: str, what: str, record: Mapping[str, Any]) -> None:
        file = self.path / "attempts" / f"{shard}.json"
        file.parent.mkdir(exist_ok=True)
        notes = read_json(file) or {"attempts": [], "given_up": []}
        write_json(file, {**notes, what: [*notes[what], record]})

    def attempts(self) -> dict[str, dict[str, Any]]:
        """Notes by shard, of planned shards at which an attempt failed: `attempts`, `given_up`."""
        found = {file.stem: read_json(file) for file in self.path.glob("attempts/*.json")}
        return {
            shard: notes
            for shard in self.sizes
            if (notes := found.get(shard)) is not None and notes.keys() >= {"attempts", "given_up"}
        }

    def inflight(self) -> list[InFlight]:
        """Shards being made, and what stopped processes left behind (`alive` is False)."""
        found: list[InFlight] = []
        for file in sorted((self.path / "inflight").glob("*.*.json")):
            process, folder = read_json(file), file.with_suffix("")
            if process is not None:  # committed since the folder was listed
                progress = read_json(folder / "progress.json") or {}
                shard, alive = folder.name.split(".")[0], owner.is_alive(process, _signs(folder))
                found.append(InFlight(shard, folder, process, progress, alive))
        return found

    def sweep(self, watch: owner.Watch | None = None) -> None:
        """Remove what stopped processes left behind; those of other machines only if `watch` has
        seen them stand still for long enough."""
        watch = watch or owner.Watch()
        for item in self.inflight():
            if watch.is_lost(item.owner, _signs(item.path)):
                _forget(item.path)

    def note_run(self, run: str, record: Mapping[str, Any]) -> None:
        """Keep what is known of one run of the study: times, command, versions, machine."""
        file = self.run_note(run)
        file.parent.mkdir(exist_ok=True)
        write_json(file, record)

    def run_note(self, run: str) -> Path:
        """Where that is kept."""
        return self.path / "runs" / f"{run}.json"

    def runs(self) -> list[dict[str, Any]]:
        """All runs, oldest first."""
        found = [read_json(file) for file in (self.path / "runs").glob("*.json")]
        return sorted((r for r in found if r is not None), key=lambda record: record["started"])

    def table(self, name: str) -> "pd.DataFrame":
        """One of `TABLES`, or of `TABLES_ALONG`, over all committed shards of the plan.

        Rows are in the study's order: the same shards give the same table, whoever made them and
        when. Raises `InputError` where none is committed yet, or where a file cannot be read.
        """
        return gather.table(self.path, name, self.sizes, self.commits())

    def gather(self, shard: str) -> None:
        """Copy the tables of this shard and its neighbours into few files, once all are done."""
        gather.extend(self.path, (*TABLES, *TABLES_ALONG), list(self.sizes), shard)


def _owner_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _signs(folder: Path) -> tuple[Path, ...]:
    """The files that its owner touches while it lives."""
    return (_owner_file(folder), *folder.glob("*.json"))


def _forget(folder: Path) -> None:
    """The folder first: whatever is left has an owner that can be asked after."""
    shutil.rmtree(folder, ignore_errors=True)
    _owner_file(folder).unlink(missing_ok=True)


def _foreign(path: Path) -> bool:
    """Whether there is anything but a study's description there, whole or half-written."""
    if not path.exists():
        return False
    return not path.is_dir() or any(not f.name.startswith("study.json") for f in path.iterdir())
