"""What runs in a process of its own: paired runs, one contestant's memory or profile, the rate."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import memory
from benchmarks.catalogue import COMPARISONS
from benchmarks.contest import OURS, Comparison, Job
from benchmarks.nets import Problem, problem
from benchmarks.timing import in_turn, timed


@dataclass(frozen=True)
class Settings:
    """Of the whole table."""

    device: str
    threads: int
    cache: Path
    budget: float  # seconds a row, beyond its least number of rounds
    quick: bool = False


def set_up(nets: set[str], settings: Settings) -> float:
    """The machine's matrix-product rate, with the nets trained and kept for all that follows."""
    _configure(settings)
    for net in sorted(nets):
        problem(net, examples=None, device="cpu", cache=settings.cache)
    return _rate(torch.device(settings.device))


def times(name: str, settings: Settings) -> dict[str, Any]:
    """Seconds of each contestant by round, failures, differences to our answer."""
    comparison, work = _start(name, settings)
    jobs: dict[str, Job] = {}
    failures: dict[str, str] = {}
    for contestant, prepare in comparison.contestants.items():
        try:
            jobs[contestant] = prepare(work)
        except Exception as error:  # a peer that is not installed, or that refuses the net
            failures[contestant] = f"{type(error).__name__}: {error}".split("\n")[0]
    rounds = {"budget": 0.0, "at_least": 1} if settings.quick else {"budget": settings.budget}
    found = in_turn(jobs, synchronize=_synchronizer(work.device), **rounds)
    answers = {name: jobs[name].answer(result) for name, result in found.results.items()}
    # Compared with ours; with the first peer where we have no answer.
    expected = next((answers[name] for name in comparison.contestants if name in answers), None)
    differences = {
        name: comparison.difference(answer, expected) for name, answer in answers.items()
    }
    return {
        "seconds": {name: list(values) for name, values in found.seconds.items()},
        "failures": {**failures, **found.failures},
        "differences": differences,
        "flops": comparison.flops(work) if comparison.flops else None,
        "params": work.num_params,
        "examples": len(work.x),
    }


def peak(name: str, contestant: str, settings: Settings) -> float:
    """Bytes, from setting the contestant up to the end of its run."""
    comparison, work = _start(name, settings)
    prepare = comparison.contestants[contestant]
    # A small run first: code and kernels that load at first use are no memory of the method.
    small = Problem(work.net, work.model, work.x[:4], work.y[:4])
    if name.startswith(_LONG):
        prepare(small)
    else:
        prepare(small).run()
    return memory.growth(lambda: prepare(work).run(), work.device)


_LONG = ("top", "trace", "spectral")
"""Works whose iterations take their number from the net: even on few examples a run is long."""


def profile(name: str, settings: Settings, count: int = 6) -> list[tuple[str, float]]:
    """Our operations that take the most time in one run, with their shares of all of them."""
    comparison, work = _start(name, settings)
    job = comparison.contestants[OURS](work)
    if not name.startswith(_LONG):
        job.run()
    cuda = work.device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds if cuda else kinds[:1]) as recorded:
        job.run()
        _synchronizer(work.device)()
    events = recorded.key_averages()
    spent = {e.key: e.self_device_time_total if cuda else e.self_cpu_time_total for e in events}
    total = sum(spent.values())
    ranked = sorted(spent, key=lambda key: -spent[key])[:count]
    return [(key, spent[key] / total) for key in ranked]


def _rate(device: torch.device, size: int = 2048) -> float:
    """Operations a second of a float32 matrix product, the fastest of twelve."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    seconds = [timed(lambda: a @ b, _synchronizer(device))[0] for _ in range(12)]
    return 2 * size**3 / min(seconds)


def _start(name: str, settings: Settings) -> tuple[Comparison, Problem]:
    _configure(settings)
    comparison = next(c for c in COMPARISONS if c.name == name)
    return comparison, problem(
        comparison.net,
        examples=comparison.examples,
        device=settings.device,
        cache=settings.cache,
    )


def _configure(settings: Settings) -> None:
    torch.set_num_threads(settings.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    warnings.simplefilter("ignore")  # what the peers warn of is not ours to mend


def _synchronizer(device: torch.device) -> Callable[[], None]:
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None
