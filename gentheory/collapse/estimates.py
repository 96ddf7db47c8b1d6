"""Estimates of what is computed from class moments, at one layer or at several."""

from collections.abc import Sequence
from typing import Literal

from gentheory.checkpoint import Checkpoint
from gentheory.collapse.classes import Geometry, Spread, covariance_bytes, geometries, spreads
from gentheory.collapse.geometry import SIMPLEX, classifier_rows, functionals
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.features import Classifier, classifier, feature_sizes, layer_names
from gentheory.risk import EmpiricalRisk

Layers = Sequence[str] | Literal["all"]
"""Names of modules; none stands for the classifier, "all" for every layer that can be asked for."""


def of_layers(
    checkpoint: Checkpoint, name: str, layers: Layers, *, max_memory: int | None = None
) -> list[Geometry]:
    """The features of these layers by class, for the measure of this name.

    With `max_memory` their covariances within classes too. Raises `InputError` where these are more
    bytes.
    """
    risk, place = checkpoint.risk, f"collapse.{name}"
    named = layer_names(risk) if layers == "all" else layers
    if max_memory is None:
        return geometries(risk, place, named)
    sizes = feature_sizes(risk, named).values()
    if covariance_bytes(sizes) > max_memory:
        raise InputError(
            place,
            f"{covariance_bytes(sizes):,} bytes of covariances of {', '.join(map(str, sizes))}"
            " features",
            f"at most max_memory = {max_memory:,}",
            "raise max_memory, name fewer layers, or use collapse.nc1_trace_ratio",
        )
    return geometries(risk, place, named, covariance=True)


def penultimate(checkpoint: Checkpoint, name: str) -> tuple[Geometry, Classifier]:
    """The penultimate features by class, and the classifier that is given them."""
    classifier(checkpoint.risk)  # which says what is wrong where there is none
    geometry = of_layers(checkpoint, name, ())[-1]
    last = classifier_rows(checkpoint.risk, geometry)
    assert last is not None
    return geometry, last


def seen(risk: EmpiricalRisk, found: Sequence[Geometry]) -> list[Spread]:
    """The second pass, with the errors of all functionals."""
    return spreads(risk, found, functionals(risk))


def estimated(checkpoint: Checkpoint, name: str, found: Sequence[Geometry]) -> Estimate:
    """The functional of this name at every layer."""
    own = functionals(checkpoint.risk)
    values = [float(own(each)[name].value(each.statistics)) for each in found]
    errors = [each.errors[name] for each in seen(checkpoint.risk, found)]
    trivial = name in SIMPLEX and len(found[-1].classes) == 2
    warnings = ("two class means are a simplex, whatever the features",) if trivial else ()
    return reported(checkpoint, found, values, errors, warnings)


def reported(
    checkpoint: Checkpoint,
    found: Sequence[Geometry],
    values: Sequence[float],
    errors: Sequence[float],
    warnings: tuple[str, ...] = (),
) -> Estimate:
    """The last layer's number, and all of them in the stats."""
    last = found[-1]
    stats = {
        "layers": [each.layer for each in found],
        "values": list(values),
        "stderrs": list(errors),
        "classes": list(last.classes),
        "counts": [int(count) for count in last.features.counts],
    }
    warnings = (*warnings_of(checkpoint, last), *warnings)
    return Estimate(values[-1], errors[-1], warnings=warnings, stats=stats)


def warnings_of(checkpoint: Checkpoint, geometry: Geometry) -> tuple[str, ...]:
    """What limits any statement about these classes."""
    other = checkpoint.num_train is not None
    own = ("class means of the data at hand, not of the training data",) if other else ()
    return (*own, *geometry.warnings)
