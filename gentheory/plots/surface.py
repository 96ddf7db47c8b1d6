"""The loss on a plane through parameter space as a surface that one can turn, for a page.

A page holds plotly's script itself, about 5 MB, once, so that it works without a network.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from gentheory.plots.frame import Plane, numbers, plane, require

if TYPE_CHECKING:  # imported where a surface is drawn: most reports have none
    import plotly.graph_objects as go

_WIDE = 3.0
"""Largest over smallest loss from which on the height is logarithmic."""
_WAY = "#d55e00"
_PIECES = 24
"""Of the line from one stage to the next."""
_FONT = {"family": "DejaVu Sans, system-ui, sans-serif", "size": 11, "color": "#262626"}
_HEIGHT = "min(560px, 95vw)"
"""In the page, whose width it has, so that a telephone sees all of it."""


def surface(
    table: pd.DataFrame,
    trajectory: pd.DataFrame | None = None,
    *,
    names: tuple[str, str] = ("first direction", "second direction"),
) -> "go.Figure":
    """The loss over a regular grid, with the way of training upon it.

    `table` has the columns first, second and loss; `trajectory` step, first and second, of which
    what lies on the grid is drawn, at the interpolated loss. The loss is on a logarithmic axis
    where the largest is three times the smallest or more. `names` are those of the coordinates
    with their units. Raises `InputError` as `slice_contour` does.
    """
    import plotly.graph_objects as go

    grid = plane(table, "loss")
    loss = grid.columns["loss"]
    low, high = float(np.nanmin(loss)), float(np.nanmax(loss))
    logarithmic = low > 0 and high > _WIDE * low
    shown = np.log10(loss) if logarithmic else loss
    figure = go.Figure([_sheet(grid, shown)])
    if trajectory is not None and len(trajectory):
        figure.add_traces(_way(grid, shown, trajectory))
    figure.update_layout(
        template="plotly_white",
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        font=_FONT,
        showlegend=False,
        scene=_scene(names, shown, logarithmic=logarithmic),
    )
    return figure


def _sheet(grid: Plane, shown: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "type": "surface",
        "x": grid.first,
        "y": grid.second,
        "z": shown,
        "customdata": grid.columns["loss"],
        "hovertemplate": "(%{x:.3g}, %{y:.3g}): loss %{customdata:.4g}<extra></extra>",
        "colorscale": "Cividis",
        "showscale": False,
        "contours": {"z": {"show": True, "usecolormap": False, "color": "white", "width": 1}},
    }


def _way(grid: Plane, shown: NDArray[np.float64], trajectory: pd.DataFrame) -> list[dict[str, Any]]:
    """The line, bent along the surface, and the stages upon it; nothing where none lies there."""
    require(trajectory, "step", "first", "second")
    trajectory = trajectory.iloc[np.argsort(numbers(trajectory, "step"), kind="stable")]
    step = numbers(trajectory, "step")
    stages = np.stack([numbers(trajectory, name) for name in ("first", "second")], axis=1)
    at = RegularGridInterpolator((grid.second, grid.first), shown, bounds_error=False)
    # Lines along a surface are hidden by it in part.
    lift = 0.01 * float(np.nanmax(shown) - np.nanmin(shown))

    def upon(places: NDArray[np.float64]) -> dict[str, Any]:
        first, second = places.T
        height = at(np.stack([second, first], axis=1)) + lift
        return {"type": "scatter3d", "x": first, "y": second, "z": height}

    kept = np.isfinite(upon(stages)["z"])
    if not kept.any():
        return []
    line = {"mode": "lines", "line": {"color": _WAY, "width": 6}, "hoverinfo": "skip"}
    marker = {"color": _WAY, "size": 4, "line": {"color": "white", "width": 1}}
    points = {"mode": "markers", "marker": marker, "hoverinfo": "text", "name": "training"}
    text = [f"step {value:g}" for value in step[kept]]
    return [upon(_between(stages[kept])) | line, upon(stages[kept]) | points | {"text": text}]


def _between(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The places with others on the way from each to the next, shape [_PIECES (n - 1) + 1, 2]."""
    last = len(places) - 1
    fine = np.linspace(0, last, _PIECES * last + 1)
    return np.stack([np.interp(fine, np.arange(last + 1), c) for c in places.T], axis=1)


def _scene(
    names: tuple[str, str], shown: NDArray[np.float64], *, logarithmic: bool
) -> dict[str, object]:
    ticks, labels = _ticks(shown, logarithmic=logarithmic)
    return {
        "xaxis": {"title": {"text": names[0]}},
        "yaxis": {"title": {"text": names[1]}},
        "zaxis": {
            "title": {"text": "loss (units of the loss)"},
            "tickvals": ticks,
            "ticktext": labels,
        },
        "aspectmode": "manual",
        "aspectratio": {"x": 1, "y": 1, "z": 0.7},
        "camera": {"eye": {"x": 1.5, "y": -1.8, "z": 1.1}, "center": {"x": 0, "y": 0, "z": -0.15}},
    }


def _ticks(shown: NDArray[np.float64], *, logarithmic: bool) -> tuple[list[float], list[str]]:
    """Five heights and what they are called."""
    ticks = np.linspace(np.nanmin(shown), np.nanmax(shown), 5)
    values = 10**ticks if logarithmic else ticks
    return ticks.tolist(), [f"{value:.3g}".replace("-", "−") for value in values]


def script() -> str:
    """The script element that all surfaces of a page need once."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def fragment(figure: "go.Figure", name: str) -> str:
    """The element of one surface, without the script; `name` tells it apart in its page."""
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        default_height=_HEIGHT,
        config={"displaylogo": False, "responsive": True},
    )
