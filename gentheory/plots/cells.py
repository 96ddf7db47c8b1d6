"""A matrix of correlations as colours with the numbers in them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from gentheory.plots.style import INK

# From orange over white to blue, which every kind of colour vision tells apart.
_COLOURS = LinearSegmentedColormap.from_list("orange to blue", ["#d55e00", "#ffffff", "#0072b2"])


def paint(
    axes: Axes, values: NDArray[np.float64], *, bold: NDArray[np.bool_], size: float = 6.5
) -> None:
    """Draw values [rows, columns] from -1 to 1, the first row on top; what is nan stays blank.

    Numbers have two decimals, in the font `size`, bold where `bold` [rows, columns] says so.
    """
    rows, columns = values.shape
    edges = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    axes.pcolormesh(
        *edges, values, cmap=_COLOURS, vmin=-1, vmax=1, edgecolors="white", linewidth=0.5
    )
    for (row, column), number in np.ndenumerate(values):
        if np.isfinite(number):
            written = axes.text(column, row, _short(number), ha="center", va="center")
            written.set(color="white" if abs(number) > 0.75 else INK, fontsize=size)
            written.set_fontweight("bold" if bold[row, column] else "normal")
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(axis="x", labeltop=True, labelbottom=False, length=0, pad=2)
    axes.tick_params(axis="y", length=0, pad=2)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _short(value: float) -> str:
    """Two decimals without the zero before the point.

    >>> _short(0.724), _short(-0.5), _short(1.0), _short(-0.001)
    ('.72', '−.50', '1.00', '.00')
    """
    text = f"{value:.2f}".replace("0.", ".", 1)
    return ".00" if text == "-.00" else text.replace("-", "−")
