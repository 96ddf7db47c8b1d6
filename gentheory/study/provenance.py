"""What a number was made with: versions, commit, machine."""

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("gentheory", "torch", "numpy", "scipy", "pandas", "duckdb", "distributed")


def provenance() -> dict[str, Any]:
    """Versions, the commit of gentheory's own source, and the machine, as plain values."""
    return {
        "versions": {"python": platform.python_version(), **dict(map(_version, _PACKAGES))},
        "commit": commit(),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "cores": cores(),
    }


@cache
def made_with() -> dict[str, str]:
    """Versions of all that a model's digits depend on, and a digest of gentheory's own source."""
    digits = ("gentheory", "torch", "numpy", "scipy", "duckdb")
    package, source = Path(__file__).resolve().parents[1], hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        source.update(str(file.relative_to(package)).encode() + file.read_bytes())
    return {**dict(map(_version, digits)), "gentheory's source": source.hexdigest()[:12]}


def cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def commit() -> str:
    """The source's commit, with "+changes" where files differ from it; "" outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    head = _git(here, "rev-parse", "--short=12", "HEAD")
    changed = _git(here, "status", "--porcelain", "--", "gentheory", "studies")
    return f"{head}+changes" if head and changed else head


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> tuple[str, str]:
    try:
        return package, version(package)
    except PackageNotFoundError:
        return package, "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
