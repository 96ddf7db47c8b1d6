"""Who makes a shard, and whether that process still lives: asked of the kernel where it can be.

A process on another machine is judged by its sign of life, a file that it touches every few
seconds. Clocks may jump or disagree, so ages are taken by the clock of the file system, in either
direction, and nothing is removed that this process has not itself seen unchanged for as long.
"""

import os
import socket
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gentheory.study.background import repeating

BEAT = 15.0
"""Seconds between two signs of life."""
SILENT_AFTER = 120.0
"""Seconds without one after which a process on another machine counts as lost."""


def owner() -> dict[str, Any]:
    """This process, in plain values."""
    pid = os.getpid()
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "kernel": _kernel(),
        "born": _born(pid),
        "started": time.time(),
    }


@contextmanager
def beating(file: Path) -> Generator[None, None, None]:
    """Touch the file every `BEAT` seconds while the block runs."""

    def beat() -> None:
        with suppress(OSError):
            os.utime(file)

    with repeating(beat, every=BEAT):
        yield


def is_alive(process: Mapping[str, Any], signs: tuple[Path, ...]) -> bool:
    """Whether the process runs; `signs` are the files that it touches."""
    if not _is_here(process):
        # A clock that was put back leaves signs in the future: as far off, they say as little.
        last = max(map(_modified, signs))
        return abs(_now(signs[0].parent) - last / 1e9) < SILENT_AFTER
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _born(process["pid"]) == process.get("born", "")


@dataclass
class Watch:
    """Signs of life of other machines' processes, and since when they have stood still here."""

    seen: dict[Path, tuple[int, float]] = field(default_factory=dict[Path, tuple[int, float]])

    def is_lost(self, process: Mapping[str, Any], signs: tuple[Path, ...]) -> bool:
        """Whether the process is gone for certain: no clock but this process's own is asked."""
        if _is_here(process):
            return not is_alive(process, signs)
        last, now = max(map(_modified, signs)), time.monotonic()
        known, since = self.seen.get(signs[0], (None, now))
        if known != last:
            self.seen[signs[0]] = (last, now)
            return False
        return now - since >= SILENT_AFTER


def _is_here(process: Mapping[str, Any]) -> bool:
    """Whether its number means something here: two containers may share a name, or a kernel."""
    kernel = _kernel()
    return process.get("host") == socket.gethostname() and process.get("kernel", kernel) == kernel


def _kernel() -> str:
    """The boot of the machine and the space of process numbers; empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When the process was started, in the kernel's ticks: its number may be given to another.

    Empty for a process that is over, and where the kernel does not tell.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in "XZ" else fields[18]


def _now(folder: Path) -> float:
    """The time by the clock that stamps the folder's files, in seconds."""
    file = folder / f"{uuid.uuid4().hex[:8]}.tmp"
    try:
        file.touch()
        return file.stat().st_mtime
    except OSError:
        return time.time()  # a folder that may only be read
    finally:
        with suppress(OSError):
            file.unlink()


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
