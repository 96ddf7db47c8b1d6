"""Names made of what they name."""

import hashlib
import json
from typing import Any

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def digest(value: Any) -> str:
    """The start of the SHA-256 of a value's canonical JSON, as sixteen hexadecimal digits."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:16]
