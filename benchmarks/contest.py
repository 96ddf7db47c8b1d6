"""What a comparison is: one piece of work on one net, done by gentheory and by each peer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.nets import Problem

OURS = "gentheory"


@dataclass(frozen=True)
class Job:
    """One contestant, set up: `run` is timed, `answer` turns what it returns into a tensor."""

    run: Callable[[], Any]
    answer: Callable[[Any], Tensor] = lambda result: result


Prepare = Callable[[Problem], Job]
"""Sets a contestant up, untimed: what belongs to the work itself is in the job's `run`."""


@dataclass(frozen=True)
class Comparison:
    """A row of the table."""

    work: str
    net: str
    contestants: Mapping[str, Prepare]
    """By name; `OURS` is one of them."""
    target: float = 1.0
    """The least ratio of the best peer's time to ours; without peers, the most seconds."""
    difference: Callable[[Tensor, Tensor], float] = field(
        default=lambda found, expected: relative(found, expected)
    )
    tolerance: float = 1e-4
    """Of `difference` between a peer's answer and ours, beyond which they disagree."""
    flops: Callable[[Problem], float] | None = None
    """Multiplications and additions that the work cannot do without."""
    examples: int | None = None
    """Of the net's data set; all of it unless given."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """By contestant: its configuration, or why its answer differs."""
    targets: Mapping[str, float] = field(default_factory=dict)
    """By contestant: its own target, where it is not the row's."""
    apart: bool = False
    """Whether the work is done in processes of its own: their memory and profile are not seen."""

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        return f"{self.work}/{self.net}".replace(" ", "-")


def relative(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|, in float64."""
    found, expected = found.detach().double().flatten(), expected.detach().double().flatten()
    return float((found - expected.to(found.device)).norm() / expected.norm())


def flat(tensors: Any) -> Tensor:
    """One vector of many tensors."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
