"""How numbers are written in sentences and tables: a real minus sign, no false precision."""

import math
from collections.abc import Callable, Mapping
from typing import Any


def tau(value: float) -> str:
    """A correlation, to two decimals.

    >>> tau(-0.494)
    '−0.49'
    """
    text = f"{value:.2f}"
    return (text[1:] if text == "-0.00" else text).replace("-", "−")


def size(value: float) -> str:
    """A positive or negative quantity, to two significant digits.

    >>> size(0.03149), size(0.3), size(12.7), size(2.4e-7), size(-math.inf)
    ('0.031', '0.30', '13', '2.4·10^−7', '−∞')
    """
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value and not 1e-3 <= abs(value) < 1e4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}·10^{int(exponent)}".replace("-", "−")
    digits = max(0, 1 - int(f"{value:.1e}".split("e")[1])) if value else 0
    return f"{value:.{digits}f}".replace("-", "−")


def probability(value: float) -> str:
    """A p-value, to three decimals.

    >>> probability(0.0314), probability(1e-9)
    ('0.031', '< 0.001')
    """
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 1e-3 else f"{value:.3f}"


def interval(row: Mapping[str, Any], name: str, write: Callable[[float], str] = tau) -> str:
    """The value of `name` in a row with its interval: "0.62 [0.55, 0.68]"; "undefined" if nan.

    >>> interval({"kendall": 0.62, "kendall.low": 0.55, "kendall.high": 0.68}, "kendall")
    '0.62 [0.55, 0.68]'
    """
    value = row[name]
    if math.isnan(value):
        return "undefined"
    return f"{write(value)} {bounds(row, name, write)}".strip()


def bounds(row: Mapping[str, Any], name: str, write: Callable[[float], str] = tau) -> str:
    """The interval alone, "[0.55, 0.68]"; nothing where it is unknown."""
    low, high = row[f"{name}.low"], row[f"{name}.high"]
    return "" if math.isnan(low) else f"[{write(low)}, {write(high)}]"
