"""Training loss over epochs, a thin line for each model, a panel for each architecture."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import MUTED, Look, entitle, log_axis, looks, panels, remark, styled

Curve = NDArray[np.float64]

_MAX_VECTOR_POINTS = 20_000
"""Lines of a panel with more points are pixels, so that a page stays a few MB."""


def training_curves(
    table: pd.DataFrame,
    *,
    columns: int = 6,
    width: float = 12.0,
    figure: Figure | None = None,
) -> list[Axes]:
    """The training loss (logarithmic, units of the loss) of every model after each epoch.

    `table` has one row a model and epoch and the columns model, architecture, epoch, train_loss
    and, optionally, outcome: models that "diverged" are grey and dotted and counted in their
    panel, and do not stretch the axis. Losses that are not positive and finite end their line.
    `width` is in inches. Raises `InputError` for a missing column and where no loss can be drawn.
    """
    require(table, "model", "architecture", "epoch", "train_loss")
    loss = numbers(table, "train_loss")
    drawn = table.loc[np.isfinite(loss) & (loss > 0)]
    architectures = group(drawn, "architecture", what="a positive, finite training loss")
    look = looks(table["architecture"])
    with styled():
        grid = panels(
            figure, len(architectures), columns=columns, width=width, height=0.85 * width / columns
        )
        entitle(grid, architectures)
        for axes, (architecture, frame) in zip(grid, architectures.items(), strict=True):
            _lines(axes, frame, look[architecture])
        _scale(grid, drawn)
        _label(grid)
    return grid


def _lines(axes: Axes, frame: pd.DataFrame, look: Look) -> None:
    models = group(frame, "model", what="a model")
    curves = {name: _curve(rows) for name, rows in models.items()}
    diverged = {name for name, rows in models.items() if _diverged(rows).any()}
    kept = [curve for name, curve in curves.items() if name not in diverged]
    lost = [curve for name, curve in curves.items() if name in diverged]
    alpha = float(np.clip(20 / max(len(kept), 1), 0.4, 0.8))
    axes.add_collection(LineCollection(kept, colors=[look.colour], linewidths=0.9, alpha=alpha))
    axes.add_collection(LineCollection(lost, colors=MUTED, linewidths=0.8, linestyles="dotted"))
    for lines in axes.collections:
        lines.set_rasterized(len(frame) > _MAX_VECTOR_POINTS)
    if lost:
        remark(axes, f"dotted: {len(lost)} diverged")


def _curve(rows: pd.DataFrame) -> Curve:
    """Points (epoch, training loss) in the order of the epochs, shape [points, 2]."""
    points = np.stack([numbers(rows, "epoch"), numbers(rows, "train_loss")], axis=1)
    return points[np.argsort(points[:, 0])]


def _diverged(rows: pd.DataFrame) -> NDArray[np.bool_]:
    if "outcome" not in rows.columns:
        return np.zeros(len(rows), dtype=bool)
    return np.array([outcome == "diverged" for outcome in rows["outcome"]])


def _scale(grid: list[Axes], drawn: pd.DataFrame) -> None:
    loss, kept = numbers(drawn, "train_loss"), ~_diverged(drawn)
    bounds = loss[kept] if kept.any() else loss
    low, high = float(bounds.min()) / 1.3, float(bounds.max()) * 1.3
    epochs = numbers(drawn, "epoch")
    first, last = float(epochs.min()), float(epochs.max())
    for axes in grid:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        axes.set_xlim(first, last if last > first else first + 1)
        log_axis(axes.yaxis, low, high)


def _label(grid: list[Axes]) -> None:
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("training loss (units of the loss)", fontsize=9)
