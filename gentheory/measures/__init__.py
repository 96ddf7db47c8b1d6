"""Measures: one file a family, each measure a function `f(checkpoint, *, options, generator)`.

`measure` finds them by name: "tic.diagonal" is `diagonal` in `gentheory/measures/tic.py`, and a
bare family name means the function of that name, or, where there is none, all its measures, and
"cheap" those of `CHEAP`. A family's `__all__` lists them. What follows a colon tells variants
apart: "tic.exact:strong" is `tic.exact` with options of its own.
"""

import importlib
import inspect
import json
import math
import pkgutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.risk import EmpiricalRisk
from gentheory.seeds import generator

Measure = Callable[..., Estimate]
Options = Mapping[str, Mapping[str, Any]]

_GIVEN = ("checkpoint", "generator")

CHEAP = (
    *(f"baselines.{name}" for name in ("training_loss", "parameter_count", "aic", "bic")),
    *("baselines.laplace", "baselines.laplace_diagonal"),
    *("collapse.nc1", "collapse.nc4", "collapse.cdnv"),
    *(f"margins.{name}" for name in ("output", "normalized", "inverse_square")),
    *(f"noise.{name}" for name in ("scale", "variance", "gsnr", "coherence", "stiffness")),
    *("norms.parameters", "norms.distance", "norms.spectral", "norms.frobenius"),
    *("norms.stable_rank", "norms.spectral_complexity", "norms.frobenius_sum"),
    *("norms.frobenius_distance", "norms.spectral_distance", "norms.path"),
    *("ntk.linearization_error", "pac_bayes.sigma"),
    *(f"sharpness.{name}" for name in ("sam", "adaptive", "average", "m_sharpness", "fisher_rao")),
    "spectra.trace",
    *(f"tic.{name}" for name in ("trace_ratio", "diagonal", "kfac", "ekfac")),
)
"""What "cheap" stands for: passes over the data, at most some hundred in all; no P², no N²."""


class Results(Mapping[str, Estimate]):
    """Estimates by the names they were asked for, and the seconds each took."""

    def __init__(self, estimates: Mapping[str, Estimate], seconds: Mapping[str, float]) -> None:
        self._estimates, self.seconds = dict(estimates), dict(seconds)

    def __getitem__(self, name: str) -> Estimate:
        return self._estimates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._estimates)

    def __len__(self) -> int:
        return len(self._estimates)

    def __repr__(self) -> str:
        return self.to_frame().to_string()

    def to_frame(self) -> pd.DataFrame:
        """A row a measure: value, stderr, status, reason, warnings and stats as JSON, seconds."""
        rows = [table_row(name, estimate) for name, estimate in self._estimates.items()]
        columns = list(table_row("", Estimate(0.0)))  # there even where no row is
        frame = pd.DataFrame(rows, columns=columns).set_index("measure")
        return frame.assign(seconds=pd.Series(self.seconds))

    def notes(self) -> dict[str, list[str]]:
        """Reasons and warnings, each with the measures that it is about."""
        found: dict[str, list[str]] = {}
        for name, estimate in self._estimates.items():
            for note in filter(None, (estimate.reason, *estimate.warnings)):
                found.setdefault(note, []).append(name)
        return found

    def to_json(self) -> str:
        """Strict JSON, an object a measure; nan is null."""
        return json.dumps({name: json.loads(e.to_json()) for name, e in self._estimates.items()})


def table_row(name: str, estimate: Estimate) -> dict[str, Any]:
    """One estimate as a flat row; `warnings` and `stats` are JSON text."""
    record = json.loads(estimate.to_json())
    return {
        "measure": name,
        "value": estimate.value,
        "stderr": estimate.stderr,
        "status": estimate.status,
        "reason": estimate.reason,
        "warnings": json.dumps(record["warnings"]),
        "stats": json.dumps(record["stats"], sort_keys=True),
    }


def names() -> list[str]:
    """Every measure there is, as family.function."""
    return [f"{family}.{name}" for family in families() for name in _family(family).__all__]


def families() -> list[str]:
    """The names of the families."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def expanded(asked: Iterable[str]) -> list[str]:
    """The names, none twice, with the measures that "cheap" or a bare family stands for."""
    found: list[str] = []
    for name in [asked] if isinstance(asked, str) else asked:
        if name == "cheap":
            found += CHEAP
            continue
        own = _family(name).__all__ if name in families() else [name]
        found += [name] if name in own else [f"{name}.{one}" for one in own]
    return list(dict.fromkeys(found))


def find(name: str) -> Measure:
    """The function of this name. Raises `InputError` with the nearest names for any other."""
    family, dot, function = name.partition(":")[0].partition(".")
    function = function if dot else family
    if family in families() and function in _family(family).__all__:
        return getattr(_family(family), function)
    own = [n for n in names() if n.startswith(f"{family}.")]
    near = own or get_close_matches(name, [*families(), *names()], cutoff=0.5) or families()
    cure = "choose one; `gentheory measures` lists them all"
    raise InputError("measure", repr(name), f"one of {', '.join(near)}", cure)


@dataclass(frozen=True)
class Description:
    """What a measure's docstring says of it."""

    formula: str
    cost: str
    source: str


def describe(name: str) -> Description:
    """The formula (first paragraph), the cost and the source of a measure, from its docstring."""
    lines = (inspect.getdoc(find(name)) or "").splitlines()
    formula = " ".join(takewhile(bool, lines))
    return Description(formula, _said(lines, "Cost"), _said(lines, "Source"))


def _said(lines: list[str], key: str) -> str:
    """What follows `key:`, up to the next key or the end of the paragraph."""
    start = next((i for i, line in enumerate(lines) if line.startswith(f"{key}: ")), None)
    if start is None:
        return ""
    rest = lines[start + 1 :]
    ends = (i for i, line in enumerate(rest) if not line or line.startswith(("Cost: ", "Source: ")))
    text = [lines[start].removeprefix(f"{key}: "), *rest[: next(ends, len(rest))]]
    return " ".join(text).rstrip(".")


def check_options(options: Options, asked: Iterable[str]) -> None:
    """Raise `InputError` for options of a measure not asked for, or that it cannot take."""
    asked = list(asked)
    for name, given in options.items():
        if name not in asked:
            raise InputError(
                f"options of {name!r}", "a measure not asked for", ", ".join(asked), "correct it"
            )
        parameters = inspect.signature(find(name)).parameters
        taken = {n: p.annotation for n, p in parameters.items() if n not in _GIVEN}
        for option, value in given.items():
            _check_option(name, option, value, taken)


def _check_option(name: str, option: str, value: Any, taken: Mapping[str, Any]) -> None:
    place = f"options of {name!r}"
    if option not in taken:
        raise InputError(place, repr(option), f"one of {', '.join(taken)}", "correct it")
    try:
        TypeAdapter(taken[option]).validate_python(value, strict=True)
    except ValidationError:
        expected = inspect.formatannotation(taken[option])
        raise InputError(
            place, f"{option} = {value!r}", f"a value of type {expected}", "change it"
        ) from None


def measure(
    subject: EmpiricalRisk | Checkpoint,
    names: str | Iterable[str],
    *,
    seed: int = 0,
    options: Options = {},  # noqa: B006  read-only
    progress: Callable[[str], None] | None = None,
    strict: bool = True,
) -> Results:
    """Estimates of the named measures on a risk, or on a checkpoint that also knows its start.

    A bare family name is the function of that name, or stands for all measures of the family.
    `options` maps a measure's name to its keyword arguments. Each measure draws from its own
    generator, seeded by `seed` and its name, so its value does not depend on the others asked.
    `progress` is called with each name before it runs. Raises `InputError` for an unknown name or
    option, and for data that cannot be used; a measure that does not apply to the subject or that
    breaks is an `Estimate` with the status `refused` or `failed` and the reason. With `strict` an
    error that only a mistake in the code can explain is raised; without, as in a study of
    thousands, it is a failure like others.
    """
    names = expanded(names)
    functions = {name: find(name) for name in names}
    check_options(options, names)
    checkpoint = subject if isinstance(subject, Checkpoint) else Checkpoint(subject)
    if strict:
        checkpoint.risk.check()
    estimates: dict[str, Estimate] = {}
    seconds: dict[str, float] = {}
    for name, function in functions.items():
        if progress is not None:
            progress(name)
        start = time.perf_counter()
        estimates[name] = _guarded(function, checkpoint, options.get(name, {}), seed, name, strict)
        seconds[name] = time.perf_counter() - start
    return Results(estimates, seconds)


def _guarded(
    function: Measure,
    checkpoint: Checkpoint,
    options: Mapping[str, Any],
    seed: int,
    name: str,
    strict: bool,
) -> Estimate:
    """The estimate, or why there is none."""
    expected = (ArithmeticError, MemoryError, RuntimeError)  # torch's own errors are the last
    try:
        _check_parameters(checkpoint.risk)
        estimate = function(checkpoint, **options, generator=generator(seed, name))
    except InputError as error:
        return Estimate.missing("refused", str(error))
    except Exception as error:
        if strict and not isinstance(error, expected):
            raise
        return Estimate.missing("failed", f"{type(error).__name__}: {error}")
    if estimate.status == "ok" and not math.isfinite(estimate.value):
        return Estimate.missing("failed", f"{name} came out as {estimate.value}")
    return estimate


def _check_parameters(risk: EmpiricalRisk) -> None:
    """Raise `InputError` where they are not finite, whatever a measure would stumble over."""
    for name, values in risk.layout.unflatten(risk.theta).items():
        if not bool(values.isfinite().all()):
            raise InputError(
                f"parameters, {name}",
                "numbers that are nan or infinite",
                "finite ones",
                "measure a checkpoint from before training diverged",
            )


def _family(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")
