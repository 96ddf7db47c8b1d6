"""A row of the table out of what a worker measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.contest import OURS, Comparison
from benchmarks.timing import Ratio, best, ratio


@dataclass(frozen=True)
class Standing:
    """One peer beside us."""

    name: str
    seconds: float  # median
    rounds: int
    ratio: Ratio | None  # of its time to ours; None where we have none
    target: float
    difference: float
    agrees: bool
    note: str

    @property
    def reached(self) -> bool:
        """Whether we are as much faster as the target says."""
        return self.ratio is not None and self.ratio.median >= self.target


@dataclass(frozen=True)
class Row:
    """A comparison, measured."""

    work: str
    net: str
    params: int
    examples: int
    target: float
    seconds: float | None  # ours, median
    rounds: int
    peers: tuple[Standing, ...]  # fastest first
    best: str | None
    failures: Mapping[str, str]
    peaks: Mapping[str, float]  # bytes
    share: float | None  # of the machine's matrix-product rate
    ceiling: float | None  # the ratio at the whole of that rate
    times: Mapping[str, list[float]]  # seconds by round
    profile: tuple[tuple[str, float], ...] = ()  # our operations and their shares of the time

    @property
    def standing(self) -> Standing | None:
        """The best peer's."""
        return next((peer for peer in self.peers if peer.name == self.best), None)

    @property
    def reached(self) -> bool:
        """The target of the row, and every peer's own; without peers, the seconds."""
        if self.seconds is None:
            return False
        if self.standing is None:
            return not self.peers and self.seconds <= self.target
        own = [peer for peer in self.peers if peer.target != self.target]
        return self.standing.reached and all(peer.reached for peer in own)

    @property
    def disagreements(self) -> tuple[Standing, ...]:
        """Peers with another answer."""
        return tuple(peer for peer in self.peers if not peer.agrees)

    @property
    def lean(self) -> bool | None:
        """Whether our peak memory is at most the best peer's; None where one is unknown."""
        if self.best is None or not {OURS, self.best} <= self.peaks.keys():
            return None
        return self.peaks[OURS] <= self.peaks[self.best]

    def line(self) -> str:
        """For the terminal."""
        ours = "no time" if self.seconds is None else f"{self.seconds:.4g} s"
        peers = ", ".join(
            f"{p.name} {p.seconds:.4g} s"
            + (f" ({p.ratio.median:.2f}x)" if p.ratio else "")
            + ("" if p.agrees else f" DISAGREES by {p.difference:.2g}")
            for p in self.peers
        )
        failed = "".join(f"; {name}: {why}" for name, why in self.failures.items())
        mark = "reached" if self.reached else "BELOW"
        share = f" [{self.share:.0%} of matmul rate]" if self.share else ""
        share += f" [ceiling {self.ceiling:.1f}x]" if self.ceiling else ""
        head = f"{self.work}, {self.net}: {mark} {self.target:g}"
        return f"{head}. ours {ours}{share}; {peers}{failed}"


def row(comparison: Comparison, found: Mapping[str, Any], rate: float) -> Row:
    """`found` is what `worker.times` returns; `rate` in operations a second."""
    seconds = found["seconds"]
    ours = seconds.get(OURS)
    peers = [_standing(comparison, found, name, ours) for name in seconds if name != OURS]
    own = None if ours is None else median(ours)
    least = None if found["flops"] is None else found["flops"] / rate
    # A peer with another answer, or with a target of its own, is not what the row is about.
    comparable = {
        peer.name: seconds[peer.name]
        for peer in peers
        if (peer.agrees or ours is None) and peer.name not in comparison.targets
    }
    rival = best(comparable)
    return Row(
        work=comparison.work,
        net=comparison.net,
        params=found["params"],
        examples=found["examples"],
        target=comparison.target,
        seconds=own,
        rounds=0 if ours is None else len(ours),
        peers=tuple(sorted(peers, key=lambda peer: peer.seconds)),
        best=rival,
        failures=found["failures"],
        peaks={},
        share=None if least is None or own is None else least / own,
        ceiling=None if least is None or rival is None else median(seconds[rival]) / least,
        times=seconds,
    )


def _standing(
    comparison: Comparison, found: Mapping[str, Any], name: str, ours: list[float] | None
) -> Standing:
    times, difference = found["seconds"][name], found["differences"][name]
    return Standing(
        name=name,
        seconds=median(times),
        rounds=len(times),
        ratio=None if ours is None else ratio(times, ours),
        target=comparison.targets.get(name, comparison.target),
        difference=difference,
        agrees=difference <= comparison.tolerance,
        note=comparison.notes.get(name, ""),
    )
