"""Paired runs: all contestants in turn, again and again, so that what the machine does hits all."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from benchmarks.contest import OURS, Job

SLOW_SECONDS, SLOW_RATIO = 2.0, 1.5
"""A peer whose first run takes longer than both is not run again: it is not the best one."""


@dataclass(frozen=True)
class Times:
    """Seconds of each contestant by round; one run alone for a peer that is out of the contest."""

    seconds: Mapping[str, list[float]]
    results: Mapping[str, Any]
    failures: Mapping[str, str]


@dataclass(frozen=True)
class Ratio:
    """Of a peer's time to ours: the median over the rounds, and its quartiles."""

    median: float
    low: float
    high: float


def in_turn(
    jobs: Mapping[str, Job],
    *,
    budget: float,
    at_least: int,
    at_most: int = 15,
    synchronize: Callable[[], None] = lambda: None,
) -> Times:
    """A round to warm up, then as many rounds as `budget` seconds hold, within the bounds.

    A run that took longer than `SLOW_SECONDS` to warm up counts as the first round: by then it is
    warm. A contestant that raises is out, with its reason.
    """
    first, results, failures = {}, {}, {}
    for name, job in jobs.items():
        try:
            first[name], results[name] = timed(job.run, synchronize)
        except Exception as error:  # whatever a peer raises, the others go on
            failures[name] = f"{type(error).__name__}: {error}".split("\n")[0]
    peers = [first[name] for name in first if name != OURS]
    limit = max(SLOW_SECONDS, SLOW_RATIO * min(peers, default=0.0))
    staying = {name: jobs[name] for name in first if name == OURS or first[name] <= limit}
    # A short first run is mostly warming up: another one tells how many rounds there is time for.
    total = sum(
        first[name] if first[name] > SLOW_SECONDS else timed(job.run, synchronize)[0]
        for name, job in staying.items()
    )
    rounds = max(at_least, min(at_most, round(budget / total))) if total else at_least
    seconds = {
        name: [first[name]] if name not in staying or first[name] > SLOW_SECONDS else []
        for name in first
    }
    for done in range(rounds):
        for name, job in staying.items():
            if len(seconds[name]) <= done:
                seconds[name].append(timed(job.run, synchronize)[0])
    return Times(seconds, results, failures)


def timed(run: Callable[[], Any], synchronize: Callable[[], None]) -> tuple[float, Any]:
    """Seconds of one run, without the garbage collector, and what it returned."""
    gc.collect()
    gc.disable()
    try:
        synchronize()
        start = time.perf_counter()
        result = run()
        synchronize()
        return time.perf_counter() - start, result
    finally:
        gc.enable()


def ratio(peer: list[float], ours: list[float]) -> Ratio:
    """Pairwise; a peer that ran once is compared with our first round."""
    ratios = [a / b for a, b in zip(peer, ours, strict=False)]
    if len(ratios) == 1:
        return Ratio(ratios[0], ratios[0], ratios[0])
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return Ratio(median(ratios), low, high)


def best(seconds: Mapping[str, list[float]]) -> str | None:
    """The peer with the smallest median time; None without one."""
    peers = {name: median(times) for name, times in seconds.items() if name != OURS}
    return min(peers, key=lambda name: peers[name], default=None)
