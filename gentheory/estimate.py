"""What every measure returns: a number, its error, and what there is to know about it."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

Status = Literal["ok", "refused", "failed"]


@dataclass(frozen=True)
class Estimate:
    """One number with its error bar. A failure is a value too: `status` and `reason` say why."""

    value: float
    stderr: float = 0.0
    """Standard error; 0 is exact, nan is unknown. Each measure says which randomness it covers."""
    status: Status = "ok"
    """`ok`; `refused`: the measure does not apply or would not fit; `failed`: it broke."""
    reason: str = ""
    warnings: tuple[str, ...] = ()
    """Why the number may mislead although it was computed."""
    stats: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Diagnostics by name: numbers, strings, truth values and lists of them."""

    @classmethod
    def from_samples(
        cls, samples: Float[Tensor, " K"], *, warnings: tuple[str, ...] = (), **stats: Any
    ) -> "Estimate":
        """Mean of K independent samples, `stderr` = their standard deviation / √K (nan at K = 1).

        >>> import torch
        >>> Estimate.from_samples(torch.tensor([1.0, 2.0, 3.0])).value
        2.0
        """
        samples = samples.detach().double()
        error = samples.std() / math.sqrt(len(samples)) if len(samples) > 1 else math.nan
        return cls(
            samples.mean().item(),
            float(error),
            warnings=warnings,
            stats={"num_samples": len(samples), **stats},
        )

    @classmethod
    def from_ratio(
        cls, above: Float[Tensor, " K"], below: Float[Tensor, " K"], **stats: Any
    ) -> "Estimate":
        """Mean of `above` over mean of `below`, K independent pairs; `stderr` to first order.

        >>> import torch
        >>> Estimate.from_ratio(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])).value
        0.5
        """
        ratio = float(above.double().mean() / below.double().mean())
        mean = cls.from_samples((above - ratio * below) / below.double().mean(), **stats)
        return cls(ratio, mean.stderr, stats=mean.stats)

    @classmethod
    def missing(cls, status: Status, reason: str) -> "Estimate":
        """An estimate without a number: nan, with the status and the reason."""
        return cls(math.nan, math.nan, status=status, reason=reason)

    def to_json(self) -> str:
        """Strict JSON: nan is `null`, the infinities are the strings "inf" and "-inf"."""
        return json.dumps(_encode(dataclasses.asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Estimate":
        """The inverse of `to_json`."""
        record = json.loads(text)
        numbers = {key: _decode(record.pop(key)) for key in ("value", "stderr")}
        stats = {key: _decode(value) for key, value in record.pop("stats").items()}
        warnings = tuple(record.pop("warnings"))
        return cls(**numbers, warnings=warnings, stats=stats, **record)


@dataclass(frozen=True)
class Density:
    """A spectral density on a grid, smoothed by a normal kernel, with its band and its source."""

    grid: Float[Tensor, " G"]
    density: Float[Tensor, " G"]
    """Of total mass 1 by the trapezoidal rule."""
    band: Float[Tensor, " G"]
    """Standard error over the probes, point by point; nan with one probe."""
    width: float
    """Standard deviation of the kernel."""
    nodes: Float[Tensor, "K T"]
    weights: Float[Tensor, "K T"]


def _encode(value: Any) -> Any:
    """Replace the floats that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _decode(value: Any) -> Any:
    if value is None:
        return math.nan
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return float(value) if value in ("inf", "-inf") else value
