"""One go at a stack of models, in whatever process an engine has chosen for it."""

import faulthandler
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from gentheory.study.files import DiskFullError
from gentheory.study.plan import Shard
from gentheory.study.store import TRACE, Store


@dataclass(frozen=True)
class Attempt:
    """A stack to train and measure: a planned shard, or a piece of it."""

    stack: Shard
    shard: str
    """The planned shard: the stack's own name, unless it is a piece."""
    time_limit: float | None = None
    """Seconds after which its process is ended."""
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def is_piece(self) -> bool:
        """Whether it is a part of the planned shard."""
        return self.stack.id != self.shard

    def at(self, stack: Shard) -> "Attempt":
        """A new attempt, at this stack."""
        return replace(self, stack=stack, nonce=uuid.uuid4().hex[:12])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a worker in another process."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Attempt":
        """The inverse of `to_dict`."""
        stack = Shard.from_dict(record["stack"])
        return cls(stack, record["shard"], record["time_limit"], record["nonce"])


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: well where `reason` is empty."""

    reason: str = ""
    fatal: bool = False
    """Nothing else will do better: a full disk. The run ends."""
    blameless: bool = False
    """No model is to blame, but the data: to look for the one that is would be in vain."""


def perform(path: str, record: dict[str, Any], *, own_process: bool = True) -> Ended:
    """Make the attempt, and commit what comes of it to the study in the folder.

    A process of the engine's own ends at the time limit, and says in a file what it was at.
    """
    # Imported here: a scheduler passes this function on without having to load torch.
    from gentheory.data import load
    from gentheory.study.shard import run_shard

    attempt, store = Attempt.from_dict(record), Store.open(Path(path))
    if store.was_begun(attempt.shard, attempt.nonce):
        # Dask gives the task of a worker that it has lost to another by itself.
        return died(store, attempt)
    data = attempt.stack.points[0].data
    try:
        load(data["name"], **data["options"])
    except Exception as error:
        return Ended(f"{type(error).__name__}: {error}", blameless=True)
    guard = partial(_ending_after, attempt.time_limit) if own_process else nullcontext
    whole = attempt.shard if attempt.is_piece else None
    try:
        run_shard(store, attempt.stack, piece_of=whole, nonce=attempt.nonce, guard=guard)
    except DiskFullError as error:
        return Ended(str(error), fatal=True)
    except Exception as error:
        return Ended(f"{type(error).__name__}: {error}")
    return Ended()


def died(store: Store, attempt: Attempt) -> Ended:
    """How the process died that made the attempt, as far as it could say."""
    try:
        trace = (store.inflight_folder(attempt.shard, attempt.nonce) / TRACE).read_text()
    except OSError:
        trace = ""
    if trace.startswith("Timeout"):
        return Ended(f"not done within {attempt.time_limit:g} s{_place(trace)}")
    if trace.startswith("Fatal Python error: "):
        cause = trace.splitlines()[0].removeprefix("Fatal Python error: ")
        return Ended(f"the worker process crashed ({cause}){_place(trace)}")
    return Ended("the worker process died: out of memory, or ended from outside")


@contextmanager
def _ending_after(seconds: float | None, folder: Path) -> Generator[None, None, None]:
    """End the process then, even where it hangs in compiled code; whatever ends it leaves a trace.

    The watchdog is a thread without the interpreter's lock.
    """
    with (folder / TRACE).open("w") as trace:
        faulthandler.enable(trace)
        if seconds is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=trace)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()


def _place(trace: str) -> str:
    """The innermost call of the thread that made the attempt."""
    for thread in trace.split("\n\n"):
        calls = [line.strip() for line in thread.splitlines() if line.startswith("  File ")]
        if any(call.endswith(" in perform") for call in calls):
            return f", in {calls[0].removeprefix('File ')}"
    return ""
