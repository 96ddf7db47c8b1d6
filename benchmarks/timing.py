"""Paired runs: all contestants in turn, again and again, so that what the machine does hits all."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from benchmarks.contest import OURS, Job

SLOW_SECONDS, SLOW_RATIO = 2.0, 1.25
"""A peer whose first run takes longer than this, and than the fastest peer's by this ratio, is not
run again: it is not the best one."""
LONG_SECONDS = 10.0
"""A run that takes longer is not warmed up for: what is new in a first run is little beside it."""
FEWEST = 3
"""Pairs, or two where these cost more than twice the budget."""
KNOWN_PAIRS, KNOWN_SPREAD = 5, 0.03
"""From so many pairs on a row is done where the quartiles of each ratio are so close together."""


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
    at_least: int = FEWEST,
    synchronize: Callable[[], None] = lambda: None,
) -> Times:
    """A round to warm up, then rounds until the ratios are known or `budget` seconds are spent.

    A run that took longer than `LONG_SECONDS` to warm up counts as the first round. A contestant
    that raises is out, with its reason.
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
    seconds = {
        name: [first[name]] if name not in staying or first[name] > LONG_SECONDS else []
        for name in first
    }
    contest = {name: seconds[name] for name in staying}
    done = 0
    while contest and not _enough(contest, done, budget, at_least):
        for name, job in staying.items():
            if len(seconds[name]) <= done:
                seconds[name].append(timed(job.run, synchronize)[0])
        done += 1
    return Times(seconds, results, failures)


def _enough(contest: Mapping[str, list[float]], done: int, budget: float, at_least: int) -> bool:
    spent = sum(map(sum, contest.values()))
    if done < at_least:
        return done >= FEWEST - 1 and spent > 2 * budget
    return spent >= budget or (done >= KNOWN_PAIRS and _known(contest))


def _known(contest: Mapping[str, list[float]]) -> bool:
    ours = contest.get(OURS)
    if ours is None:
        return False
    ratios = [ratio(times, ours) for name, times in contest.items() if name != OURS]
    return all(found.high - found.low <= KNOWN_SPREAD * found.median for found in ratios)


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
