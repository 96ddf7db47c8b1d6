"""Values of any kind as strict JSON, and as words."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """JSON values; what is none of them is written out."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def as_json(results: Mapping[str, Any]) -> str:
    """An object of plain values as strict JSON, with one row of a table a line."""
    texts = [f"{_strict(name)}: {_lines(value)}" for name, value in results.items()]
    return "{\n" + ",\n".join(texts) + "\n}\n"


def _lines(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
        return "[\n" + ",\n".join(map(_strict, value)) + "\n]"
    return _strict(value)


def _strict(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def said(value: Any) -> str:
    """A value of the provenance in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {said(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(said, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def words(key: str) -> str:
    """A key of the provenance as words."""
    return key.replace("_", " ")
