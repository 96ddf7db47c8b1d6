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
from benchmarks.rows import Row, row
from benchmarks.worker import Settings
from gentheory.study.provenance import cores


def main() -> int:
    """Run what the arguments ask for; 1 where nothing of that name is there, or a row is lost."""
    options = _options()
    chosen = [c for c in COMPARISONS if any(part in c.name for part in options.only or [""])]
    if options.list or not chosen:
        print(*(c.name for c in COMPARISONS), sep="\n")
        return 0 if options.list else 1
    with tempfile.TemporaryDirectory() as cache:
        settings = Settings(
            device=options.device,
            threads=options.threads,
            cache=Path(cache),
            budget=options.budget,
            quick=options.quick,
        )
        return _table(chosen, settings, options.out)


def _table(chosen: list[Comparison], settings: Settings, out: str | None) -> int:
    started = time.perf_counter()
    (rate,) = _apart(worker.set_up, ({comparison.net for comparison in chosen}, settings))
    rows: list[Row] = []
    for comparison in chosen:
        try:
            rows.append(_measured(comparison, settings, rate))
        except BrokenProcessPool:
            print(f"{comparison.name}: its process died; is memory short?", file=sys.stderr)
        if out:  # after each row: who stops it keeps what is there
            seconds = round(time.perf_counter() - started)
            extent = {"comparisons": f"{len(rows)} of {len(chosen)}", "seconds": seconds}
            write_page(rows, {**machine(settings, rate), **extent}, Path(out))
    print(f"{len(rows)} of {len(chosen)} rows in {time.perf_counter() - started:.0f} s")
    return 0 if len(rows) == len(chosen) else 1


def _measured(comparison: Comparison, settings: Settings, rate: float) -> Row:
    """Times, then memory and, where the target is not reached, our profile."""
    (found,) = _apart(worker.times, (comparison.name, settings))
    made = row(comparison, found, rate)
    print(made.line(), flush=True)
    if settings.quick or comparison.apart or OURS not in made.times:
        return made
    names = [OURS] if made.best is None else [OURS, made.best]
    halved = replace(settings, threads=max(1, settings.threads // len(names)))
    peaks = _apart(worker.peak, *((comparison.name, name, halved) for name in names))
    made = replace(made, peaks=dict(zip(names, peaks, strict=True)))
    if made.reached:
        return made
    (profile,) = _apart(worker.profile, (comparison.name, settings))
    return replace(made, profile=tuple(profile))


def _apart(work: Callable[..., Any], *calls: tuple[Any, ...]) -> list[Any]:
    """All calls at once, each in a process forked from a server that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.peers", "benchmarks.worker"])
    with ProcessPoolExecutor(len(calls), mp_context=context, max_tasks_per_child=1) as pool:
        return [future.result() for future in [pool.submit(work, *call) for call in calls]]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="parts of a comparison's name")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--quick", action="store_true", help="one round, no memory, no profile")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds of pairs a row")
    parser.add_argument("--threads", type=int, default=cores())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device)
    parser.add_argument("--out", help="the page's folder; without it there is no page")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
