"""Names made of what they name."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """The start of the SHA-256 of a value's canonical JSON, as sixteen hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
