"""The distribution of each measure's sign error over environments, with where it is worst."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from gentheory.plots.frame import group, numbers, require
from gentheory.plots.style import INK, MUTED, looks, styled

_BINS = 40
_ROW, _INCHES_PER_LETTER = 0.36, 0.078
_HATCHES = ("/////", "", ".....", "xxxxx")
_MARKS: dict[str, dict[str, Any]] = {
    "mean": {"marker": "D", "markersize": 4.5, "markerfacecolor": "white"},
    "90 % quantile": {"marker": "|", "markersize": 12, "markeredgewidth": 1.8},
    "worst": {"marker": "X", "markersize": 5.5, "markerfacecolor": INK},
}


def sign_errors(table: pd.DataFrame, *, width: float = 7.5, axes: Axes | None = None) -> Axes:
    """A strip a predictor: the share of environments at each sign error, 0.5 being chance.

    `table` has one row a predictor and environment and the columns predictor, kind (colour and
    hatch) and sign_error; rows that are nan, the environments dropped, are left out and counted
    beside the name. A strip's bars are as high as the share in their bin, over the largest of
    that strip; mean, 90 % quantile and worst case are marked. Strips are in the order of first
    appearance; without `axes`, a figure of its own, `width` inches wide. Raises `InputError` for
    a missing column and for a table without rows.
    """
    require(table, "predictor", "kind", "sign_error")
    predictors = group(table, "predictor", what="an environment")
    fills = _fills(table)
    with styled():
        if axes is None:
            size = width, _ROW * len(predictors) + 0.95
            axes = Figure(figsize=size, layout="constrained").subplots()
        labels: list[str] = []
        for place, (name, rows) in enumerate(predictors.items()):
            errors = numbers(rows, "sign_error")
            known = errors[np.isfinite(errors)]
            labels.append(_name(name, len(errors) - len(known)))
            _strip(axes, known, place, fills[str(rows["kind"].iloc[0])])
        _frame(axes, labels)
        _legend(axes, fills)
    return axes


def _fills(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Colour and, for those who see none, hatch of each kind."""
    return {
        kind: {
            "facecolor": (*look.colour, 0.5),
            "edgecolor": (*look.colour, 1.0),
            "linewidth": 0.4,
            "hatch": _HATCHES[place % len(_HATCHES)],
        }
        for place, (kind, look) in enumerate(looks(map(str, table["kind"])).items())
    }


def _name(name: str, dropped: int) -> str:
    return f"{name} ({dropped:,} dropped)" if dropped else name


def _strip(axes: Axes, errors: NDArray[np.float64], place: int, fill: dict[str, Any]) -> None:
    if not len(errors):
        axes.text(0.5, place, "no environment", ha="center", va="center", fontsize=7, color=MUTED)
        return
    edges = np.linspace(-0.5 / _BINS, 1 + 0.5 / _BINS, _BINS + 2)
    counts = np.histogram(errors, edges)[0]
    middles = (edges[:-1] + edges[1:]) / 2
    heights = -0.72 * counts / counts.max()
    axes.bar(middles, heights, bottom=place + 0.36, width=0.9 / _BINS, zorder=2, **fill)
    marked = errors.mean(), np.quantile(errors, 0.9, method="inverted_cdf"), errors.max()
    for value, look in zip(marked, _MARKS.values(), strict=True):
        axes.plot(value, place + 0.1, linestyle="none", markeredgecolor=INK, zorder=4, **look)


def _frame(axes: Axes, labels: list[str]) -> None:
    axes.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    for place in range(len(labels)):
        axes.axhline(place + 0.36, color=MUTED, linewidth=0.5, zorder=1)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels=labels)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("sign error in an environment (no unit; 0.5 is chance)")


def _legend(axes: Axes, fills: dict[str, dict[str, Any]]) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    handles = [
        *(Patch(label=kind, **fill) for kind, fill in fills.items()),
        *(
            Line2D([], [], linestyle="none", markeredgecolor=INK, label=name, **look)
            for name, look in _MARKS.items()
        ),
    ]
    count = 6 if figure.get_figwidth() > 7 else 3
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=count)
