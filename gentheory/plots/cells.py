"""A matrix of correlations, cosines or weights as colours, with the numbers in them if asked."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from gentheory.plots.style import INK

# From orange over white to blue, which every kind of colour vision tells apart.
_COLOURS = LinearSegmentedColormap.from_list("orange to blue", ["#d55e00", "#ffffff", "#0072b2"])


def paint(
    axes: Axes,
    values: NDArray[np.float64],
    *,
    bold: NDArray[np.bool_] | None = None,
    size: float | None = 6.5,
    limit: float = 1.0,
) -> QuadMesh:
    """Draw values [rows, columns], the first row on top; what is nan stays blank.

    Colours reach from -limit to `limit`. Numbers have two decimals, in the font `size`, or are left
    out where it is None; bold where `bold` [rows, columns] says so.
    """
    rows, columns = values.shape
    edges = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    mesh = axes.pcolormesh(
        *edges, values, cmap=_COLOURS, vmin=-limit, vmax=limit, edgecolors="white", linewidth=0.5
    )
    if size is not None:
        _write(axes, values, bold, size, limit)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(axis="x", labeltop=True, labelbottom=False, length=0, pad=2)
    axes.tick_params(axis="y", length=0, pad=2)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return mesh


def _write(
    axes: Axes,
    values: NDArray[np.float64],
    bold: NDArray[np.bool_] | None,
    size: float,
    limit: float,
) -> None:
    for (row, column), number in np.ndenumerate(values):
        if np.isfinite(number):
            written = axes.text(column, row, _short(number), ha="center", va="center")
            written.set(color="white" if abs(number) > 0.75 * limit else INK, fontsize=size)
            heavy = bold is not None and bold[row, column]
            written.set_fontweight("bold" if heavy else "normal")


def _short(value: float) -> str:
    """Two decimals without the zero before the point.

    >>> _short(0.724), _short(-0.5), _short(1.0), _short(-0.001)
    ('.72', '−.50', '1.00', '.00')
    """
    text = f"{value:.2f}".replace("0.", ".", 1)
    return ".00" if text == "-.00" else text.replace("-", "−")
