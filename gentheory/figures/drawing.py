"""A figure that waits to be drawn: its tables, its words, and what draws it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.axes import Axes

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.measures import Options, measure

if TYPE_CHECKING:  # imported where a surface is drawn: most reports have none
    import plotly.graph_objects as go

Progress = Callable[[str], None]

NARROW: Mapping[str, Any] = {"columns": 1, "width": 3.9}
"""What makes panels fit into the window of a telephone."""
CONFIDENT = 1.96
"""Standard errors on either side of a 95 % interval."""


@dataclass(frozen=True)
class Drawing:
    """One figure."""

    name: str
    """What its file is called; none twice among the figures of a subject."""
    title: str
    caption: str
    tables: Mapping[str, pd.DataFrame]
    """What is drawn, by name."""
    draw: Callable[..., list[Axes]]
    """Draws it; takes `width` in inches, and what `narrow` holds."""
    narrow: Mapping[str, Any] = field(default_factory=lambda: NARROW)
    """Arguments of `draw` for narrow windows."""
    surface: "Callable[[], go.Figure] | None" = None
    """The same as a surface that one can turn, where there is one."""

    @property
    def alternative(self) -> str:
        """For those who do not see it."""
        count = sum(map(len, self.tables.values()))
        return f"{self.title}; {count} rows of numbers in the JSON file."


def measured(
    checkpoint: Checkpoint, options: Options, *, seed: int, progress: Progress | None = None
) -> Mapping[str, Estimate]:
    """The measures named by `options`, with these arguments.

    Raises `InputError` with the reason of the first one that came to nothing: a figure without
    its numbers is none.
    """
    found = measure(checkpoint, list(options), seed=seed, options=options, progress=progress)
    for name, estimate in found.items():
        if estimate.status != "ok":
            raise InputError(name, estimate.reason, "a number to draw", "draw another figure")
    return found


def interval(estimate: Estimate) -> dict[str, float]:
    """`value` with `low` and `high`, its 95 % interval; nan where there is no number or error."""
    reach = CONFIDENT * estimate.stderr
    return {
        "value": estimate.value,
        "low": estimate.value - reach,
        "high": estimate.value + reach,
    }
