"""What a criterion says of a model after some of its training."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

State = Literal["known", "diverged", "unknown"]


@dataclass(frozen=True)
class Observation:
    """A criterion, lower is better, with its parts and what it cost."""

    criterion: float
    """Training loss plus predicted gap; nan unless `state` is "known"."""
    state: State = "known"
    """`diverged`: the training loss is not finite; `unknown`: the measure gave no number."""
    reason: str = ""
    """Why it is not known."""
    training_loss: float = math.nan
    predicted_gap: float = math.nan
    stderr: float = math.nan
    """Of the criterion; nan is unknown."""
    seconds: float = math.nan
    """What the observation took."""
    measure: str = ""
    """By name; a rung of the ladder may stand in for a dearer one."""
    num_examples: int = 0
    """On how many training examples; values compare with those of as many alone."""

    def to_record(self) -> dict[str, float | str | None]:
        """For strict JSON: what is not finite is None, and `state` and `reason` tell why."""
        return {name: _strict(value) for name, value in asdict(self).items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Observation":
        """The inverse of `to_record`; unknown keys are left out."""
        known = {each.name for each in fields(cls)} & set(record)
        values: dict[str, Any] = {
            name: math.nan if record[name] is None else record[name] for name in known
        }
        return cls(**values)


def _strict(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
