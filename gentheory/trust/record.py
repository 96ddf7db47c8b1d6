"""The thresholds as they are stored, with what they are worth on the studies that made them."""

import math
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from gentheory.errors import InputError
from gentheory.stats import Interval

SHIPPED = "thresholds.json"

Verdict = Literal[
    "trust",
    "trust the size, not the rank",
    "trust the rank, not the size",
    "do not trust",
    "undecided",
    "unknown",
]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Record):
    """A number with its 95 % bootstrap interval over hyper-parameter points; None is unknown."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, interval: Interval) -> "Figure":
        """To six digits."""
        known = (interval.value, interval.low, interval.high)
        value, low, high = (float(f"{x:.6g}") if math.isfinite(x) else None for x in known)
        return cls(value=value, low=low, high=high)

    @property
    def number(self) -> float:
        """The value, nan where it is unknown."""
        return math.nan if self.value is None else self.value

    def surely_above(self, bound: float) -> bool:
        """Whether the whole interval is."""
        return self.low is not None and self.low > bound

    def __str__(self) -> str:
        if self.value is None:
            return "unknown"
        if self.low is None or self.high is None:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Worth(_Record):
    """How well one cut finds the models whose TIC is within the factor."""

    count: int
    """Models whose number is known."""
    auroc: Figure
    sensitivity: Figure
    """Share that passes, of the models with TIC within the factor."""
    specificity: Figure
    """Share that fails, of the others."""


class Tier(_Record):
    """The models on one side of the rule's cut."""

    count: int
    right: Figure
    """Share of which the rule is right: TIC within the factor above the cut, not so below."""
    tau: Figure
    """Kendall's tau of TIC and the gap, within settings."""


class Outcome(Worth):
    """What the whole rule is worth on a study."""

    right: Figure
    """Share of all models of which it is right."""
    passed: Tier
    failed: Tier


class Judged(_Record):
    """One indicator: its threshold and its worth."""

    name: str
    high: bool
    threshold: Figure
    informative: bool
    """Whether its AUROC is surely above 1/2 where it was fitted: only then it counts."""
    weight: float
    """Youden's J where it was fitted."""
    fit: Worth
    check: Worth


class Rule(_Record):
    """The weighted share of these indicators that has to pass."""

    indicators: tuple[str, ...]
    threshold: Figure
    verdicts: tuple[Verdict, Verdict]
    """Above the threshold and below it; "undecided" where the check does not bear out the fit."""
    fit: Outcome
    check: Outcome


class Source(_Record):
    """A study that thresholds were fitted on or checked on."""

    study: str
    commit: str
    """Of gentheory when the study ran."""
    tic: str
    models: int
    left_out: int
    """Models that diverged, or whose gap is below twice its standard error, or TIC not known."""
    settings: int
    within: float
    """Share of the models with TIC within the factor of the gap."""


class Thresholds(_Record):
    """All that `diagnose` knows, and where it knows it from."""

    factor: float
    loss: str
    fit: Source
    check: Source
    indicators: tuple[Judged, ...]
    rules: tuple[Rule, ...]
    """One for each choice of indicators that can be known of a net, that of all of them first."""


def read(path: Path | None = None) -> Thresholds:
    """The thresholds in this file, those of the package where none is named.

    Raises `InputError` for a file that is missing or of another form.
    """
    place = SHIPPED if path is None else str(path)
    try:
        shipped = files("gentheory.trust") / SHIPPED
        text = (shipped if path is None else path).read_text("utf-8")
        return Thresholds.model_validate_json(text)
    except FileNotFoundError:
        found = "no such file"
    except ValidationError as error:
        found = f"{error.error_count()} mistakes, the first at {error.errors()[0]['loc']}"
    cure = "write one: python -m gentheory.trust FIT CHECK --out FILE"
    raise InputError(place, found, "thresholds as gentheory.trust writes them", cure)
