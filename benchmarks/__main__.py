"""`python -m benchmarks`: run the comparisons and write the page."""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import worker
from benchmarks.catalogue import COMPARISONS
from benchmarks.contest import OURS, Comparison
from benchmarks.machine import machine
from benchmarks.page import write_page
from benchmarks.rows import row
from benchmarks.worker import Settings
from gentheory.study.provenance import cores


def main() -> int:
    """Run what the arguments ask for; 1 where nothing of that name is there."""
    options = _options()
    chosen = [c for c in COMPARISONS if any(part in c.name for part in options.only or [""])]
    if options.list or not chosen:
        print(*(c.name for c in COMPARISONS), sep="\n")
        return 0 if options.list else 1
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        settings = Settings(
            device=options.device,
            threads=options.threads,
            cache=Path(cache),
            budget=options.budget,
            quick=options.quick,
        )
        measured: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for comparison in chosen:
            measured.append(_measured(comparison, settings))
            if not options.quick:  # after each row: who stops it keeps what is there
                page = _write(chosen, measured, settings, started, Path(options.out))
    if not options.quick:
        print(page)
    return 0


def _write(
    chosen: list[Comparison],
    measured: list[tuple[dict[str, Any], dict[str, Any]]],
    settings: Settings,
    started: float,
    out: Path,
) -> Path:
    """The page of the rows so far."""
    rate = max(found["rate"] for found, _ in measured)
    rows = [
        replace(row(comparison, found, rate), **beside)
        for comparison, (found, beside) in zip(chosen, measured, strict=False)
    ]
    about = {**machine(settings, rate), "seconds": round(time.perf_counter() - started)}
    return write_page(rows, about, out)


def _measured(comparison: Comparison, settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Times, then memory and, where the target is not reached, our profile."""
    found = _apart(worker.times, comparison.name, settings)
    made = row(comparison, found, found["rate"])
    print(made.line(), flush=True)
    if settings.quick or OURS not in made.times:
        return found, {}
    names = [OURS] if made.best is None else [OURS, made.best]
    peaks = {name: _apart(worker.peak, comparison.name, name, settings) for name in names}
    profile = () if made.reached else _apart(worker.profile, comparison.name, settings)
    return found, {"peaks": peaks, "profile": tuple(profile)}


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a process forked from a clean server that has imported everything and used nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.peers", "benchmarks.worker"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool:
            sys.exit(f"the process of {work.__name__}{arguments[:-1]} died: is memory short?")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="parts of a comparison's name")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--quick", action="store_true", help="one round, no memory, no page")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds of pairs a row")
    parser.add_argument("--threads", type=int, default=cores())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device)
    parser.add_argument("--out", default="reports/benchmarks")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
