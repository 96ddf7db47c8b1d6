"""What may tell whether TIC can be trusted, each read off the estimates of `gentheory.measures`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gentheory.checkpoint import Checkpoint
from gentheory.estimate import Estimate
from gentheory.left_out import MAX_SIZE
from gentheory.measures import Options

INITIALIZATION, SMALL, TIME, TRAJECTORY = "initialization", "size", "training time", "trajectory"

AVAILABLE = tuple(
    frozenset({*start, *rest})
    for start in ((INITIALIZATION,), ())
    for rest in ((SMALL, TIME, TRAJECTORY), (SMALL, TIME), (SMALL,), ())
)
"""What may be known of a net: its initialization or not, its way of training in parts.

`SMALL`: small enough for leave-one-out."""

TIC = "tic"
"""Stands for the rung of TIC that was computed."""

OPTIONS: Options = {
    "tic.leave_one_out:time": {"damping": "training"},
    "tic.leave_one_out:training": {"damping": "training", "residuals": "training"},
}
"""A study that thresholds are fitted on gives its measures of these names the same options."""

_EXACT = 5000
"""`tic.exact` decomposes no larger matrix."""


@dataclass(frozen=True)
class Indicator:
    """One number of a net, and on which side of its threshold TIC is to be trusted."""

    name: str
    measure: str
    """Whose estimate it is read off; `TIC` for the rung's own."""
    read: Callable[[Estimate, Estimate], float]
    """Of the estimates of TIC and of `measure`; nan where they do not give the number."""
    needs: frozenset[str] = frozenset()
    """What not every net has beside weights and data."""
    high: bool = False
    """Whether a value above the threshold speaks for TIC."""
    of_loss: bool = False
    """Whether it has the unit of the loss, so that thresholds hold for one loss alone."""

    def value(self, tic: str, estimates: Mapping[str, Estimate]) -> tuple[float, str]:
        """The number and "", or nan and the reason why it is not known."""
        known = {TIC: estimates[tic], **estimates}
        missing = [e for e in (known[TIC], known[self.measure]) if e.status != "ok"]
        if missing:
            return math.nan, missing[0].reason
        value = self.read(known[TIC], known[self.measure])
        return value, "" if math.isfinite(value) else "its parts are not positive, or not known"


def _stat(estimate: Estimate, name: str) -> float:
    found: Any = estimate.stats.get(name, math.nan)
    return float(found)


def _per_example(tic: Estimate, _: Estimate) -> float:
    return _stat(tic, "num_params") / _stat(tic, "num_examples")


def _decrement(tic: Estimate, _: Estimate) -> float:
    return _stat(tic, "newton_decrement") / tic.value if tic.value > 0 else math.nan


def _slope(tic: Estimate, _: Estimate) -> float:
    return abs(_stat(tic, "slope_log_damping")) / tic.value if tic.value > 0 else math.nan


def _gradient(tic: Estimate, _: Estimate) -> float:
    return _stat(tic, "gradient_norm")


def _own(_: Estimate, own: Estimate) -> float:
    return own.value


def _apart(tic: Estimate, own: Estimate) -> float:
    """|log(leave-one-out / TIC)|."""
    if not (tic.value > 0 and own.value > 0):
        return math.nan
    return abs(math.log(own.value / tic.value))


_START = frozenset({INITIALIZATION})

INDICATORS = (
    Indicator("P / n", TIC, _per_example),
    Indicator("kernel distance", "ntk.distance", _own, _START),
    Indicator("linearization error", "ntk.linearization_error", _own, _START),
    Indicator("Newton decrement / TIC", TIC, _decrement),
    Indicator("gradient norm", TIC, _gradient, of_loss=True),
    Indicator("slope in log λ / TIC", TIC, _slope),
    # Where the residuals vanish, TIC vanishes with them, and the gap does not.
    Indicator("training loss", "baselines.training_loss", _own, high=True, of_loss=True),
    Indicator("|log LOO / TIC|", "tic.leave_one_out", _apart, frozenset({SMALL})),
    Indicator(
        "|log LOO / TIC|, λ = 1/T",
        "tic.leave_one_out:time",
        _apart,
        frozenset({SMALL, TIME}),
    ),
    Indicator(
        "|log LOO / TIC|, training",
        "tic.leave_one_out:training",
        _apart,
        frozenset({SMALL, TIME, TRAJECTORY}),
    ),
)
"""LOO is the leave-one-out gap; with damping 1/T; and with the residuals' mean along training."""


def names_of(checkpoint: Checkpoint) -> tuple[str, list[str]]:
    """The rung of TIC that fits, and the measures that the indicators need, that rung first."""
    tic = _rung(checkpoint)
    own = (indicator.measure for indicator in INDICATORS if indicator.measure != TIC)
    return tic, list(dict.fromkeys([tic, *own]))


def _rung(checkpoint: Checkpoint) -> str:
    """TIC itself in the smaller space of the two that fits; with Kronecker factors beyond."""
    risk = checkpoint.risk
    samples = risk.num_examples * risk.num_outputs
    if risk.num_params <= _EXACT and (risk.num_params <= samples or samples > MAX_SIZE):
        return "tic.exact"
    return "tic.kernel" if samples <= MAX_SIZE else "tic.kfac"
