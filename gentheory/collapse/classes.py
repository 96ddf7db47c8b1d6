"""Features of a net's layers by class: their moments, and how far examples are from their class.

Two passes with memory that does not grow with the data. The first gives the moments; the second
looks at every example beside the means of its class, which it takes to know them: the nearest class
mean, and the standard errors of whatever is computed from the moments.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.collapse.frames import centred, whitening
from gentheory.collapse.moments import ClassMoments, ClassSums
from gentheory.errors import InputError
from gentheory.features import FeatureBatch, feature_batches, feature_sizes
from gentheory.predictions import check_classes
from gentheory.risk import EmpiricalRisk

_ALWAYS = 2**25
"""Bytes up to which the covariance within classes is kept unasked."""


class Statistics(NamedTuple):
    """Of the classes that have examples."""

    features: ClassMoments
    units: ClassMoments
    """Of the features divided by their length."""


@dataclass(frozen=True)
class Geometry:
    """One layer's features by class."""

    layer: str
    classes: tuple[int, ...]
    """Those that have examples, K of them; the rows of all moments, in this order."""
    num_classes: int
    """Outputs of the net."""
    statistics: Statistics

    @property
    def features(self) -> ClassMoments:
        """Moments of the features themselves."""
        return self.statistics.features

    @property
    def means(self) -> Float[Tensor, "C D"]:
        """μ_c."""
        return self.features.means

    @property
    def warnings(self) -> tuple[str, ...]:
        """What limits any statement about these classes."""
        count, size = len(self.classes), self.means.shape[1]
        alone = int((self.features.counts == 1).sum())
        said = (
            (count < self.num_classes, f"classes without examples: {self.num_classes - count}"),
            (size < count - 1, f"{size} features are too few for a simplex of {count} classes"),
            (alone > 0, f"classes of one example, which show no spread: {alone}"),
        )
        return tuple(text for holds, text in said if holds)


@dataclass(frozen=True)
class Functional:
    """A number computed from the moments, differentiable in all of them but S_W."""

    value: Callable[[Statistics], Float[Tensor, ""]]
    factor: Callable[[Statistics], Float[Tensor, "D _"]] | None = None
    """F, where S_W enters through the term tr(Fᵀ S_W F); None where it does not."""


@dataclass(frozen=True)
class Spread:
    """What a second pass finds of one layer, by class."""

    errors: Mapping[str, float]
    """Standard errors over the draw of the examples, the number in each class given."""
    whitened: Float[Tensor, " C"]
    """E tr(S_B⁺ (h − μ_c)(h − μ_c)ᵀ) / C: the class's own NC1."""
    mismatches: Float[Tensor, " C"]
    """Share of the class's examples whose nearest class mean is not that of the net's class."""
    misplaced: Float[Tensor, " C"]
    """Share whose nearest class mean is not that of their own class."""


def geometries(
    risk: EmpiricalRisk, place: str, layers: Sequence[str] = (), *, covariance: bool = False
) -> list[Geometry]:
    """Moments of the features of these layers, of the classifier's without any; computed once.

    The covariances within classes are there where they are asked for, or are small. Raises
    `InputError` naming `place` where targets are not classes, where fewer than two have examples,
    and where all class means of a layer are the same.
    """
    check_classes(place, risk)
    sizes = feature_sizes(risk, layers)
    covariance = covariance or covariance_bytes(sizes.values()) <= _ALWAYS
    key = ("class geometry", tuple(sizes), covariance)
    found = risk.once(key, lambda: _geometries(risk, sizes, covariance))
    for each in found:
        _check(place, each)
    return found


def covariance_bytes(sizes: Iterable[int]) -> int:
    """Of the covariances of so many features each."""
    return 8 * sum(size**2 for size in sizes)


def _geometries(risk: EmpiricalRisk, sizes: Mapping[str, int], covariance: bool) -> list[Geometry]:
    count, device = risk.num_outputs, risk.device
    sums = {n: ClassSums(count, d, covariance=covariance, device=device) for n, d in sizes.items()}
    units = {n: ClassSums(count, d, covariance=False, device=device) for n, d in sizes.items()}
    for batch in feature_batches(risk, list(sizes)):
        for name, features in batch.features.items():
            features = features.double()
            sums[name].add(features, batch.targets)
            units[name].add(_unit(features), batch.targets)
    found: list[Geometry] = []
    for name in sizes:
        own, unit = sums[name].moments(), units[name].moments()
        there = own.counts.nonzero()[:, 0]
        kept = Statistics(own.of_classes(there), unit.of_classes(there))
        found.append(Geometry(name, tuple(there.tolist()), count, kept))
    return found


def _unit(features: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Of length 1; zeros stay zeros."""
    lengths = features.norm(dim=1, keepdim=True)
    return features / torch.where(lengths > 0, lengths, 1.0)


def _check(place: str, geometry: Geometry) -> None:
    if len(geometry.classes) < 2:
        raise InputError(
            place, "examples of one class only", "of two or more", "measure on more of the data"
        )
    means = geometry.means
    rounding = 8 * torch.finfo(means.dtype).eps * means.norm()
    if not bool(centred(means).norm() > rounding):
        raise InputError(
            f"{place}, layer {geometry.layer!r}",
            "class means that are all the same",
            "features that differ between classes",
            "measure a net that has been trained, or name another layer",
        )


def spreads(
    risk: EmpiricalRisk,
    found: Sequence[Geometry],
    functionals: Callable[[Geometry], Mapping[str, Functional]],
) -> list[Spread]:
    """The second pass over these layers; computed once for the same layers.

    The standard error is that of the delta method: every moment is a mean over the examples of a
    class, and f of them moves by ψ_i = ∂f/∂μ_c · x_i / n_c + ∂f/∂v_c |x_i|² / n_c + |Fᵀx_i|² / N,
    x_i = h_i − μ_c, with example i; the variance of f is Σ_c n_c² Var_c(ψ) / n_c, each class apart.
    """
    layers = tuple((each.layer, each.features.within is None) for each in found)
    return risk.once(
        ("class spreads", layers),
        lambda: _spreads(feature_batches(risk, [g.layer for g in found]), found, functionals),
    )


def _spreads(
    batches: Iterator[FeatureBatch],
    found: Sequence[Geometry],
    functionals: Callable[[Geometry], Mapping[str, Functional]],
) -> list[Spread]:
    passes = [_Pass(each, functionals(each)) for each in found]
    for batch in batches:
        for own in passes:
            own.add(batch.features[own.geometry.layer].double(), batch)
    return [own.spread() for own in passes]


class _Pass:
    """Sums over the examples of a layer, by class."""

    def __init__(self, geometry: Geometry, functionals: Mapping[str, Functional]) -> None:
        self.geometry = geometry
        self.slopes = {name: _slopes(f, geometry.statistics) for name, f in functionals.items()}
        means, counts = geometry.means, geometry.features.counts
        self.numbers = torch.tensor(geometry.classes, device=means.device)
        self.rows = torch.zeros(geometry.num_classes, dtype=torch.int64, device=means.device)
        self.rows[self.numbers] = torch.arange(len(counts), device=means.device)
        self.factor = whitening(means)
        self.centre = means.mean(0)
        self.sums = {name: means.new_zeros(2, len(counts)) for name in functionals}
        self.whitened, self.mismatches, self.misplaced = means.new_zeros(3, len(counts))

    def add(self, features: Float[Tensor, "B D"], batch: FeatureBatch) -> None:
        """Examples of one batch."""
        own = self.rows[batch.targets]
        nearest = self.numbers[self._nearest(features)]
        self._count(self.mismatches, own, nearest != batch.outputs.argmax(1))
        self._count(self.misplaced, own, nearest != batch.targets)
        apart = features - self.geometry.means[own]
        units = _unit(features) - self.geometry.statistics.units.means[own]
        self._count(self.whitened, own, (apart @ self.factor).square().sum(1))
        for name, slopes in self.slopes.items():
            moved = slopes.of(apart, units, own, self.geometry.features.counts)
            self._count(self.sums[name][0], own, moved)
            self._count(self.sums[name][1], own, moved.square())

    def _nearest(self, features: Float[Tensor, "B D"]) -> Tensor:
        """Rows of the class means that are nearest, [B]."""
        centres = self.geometry.means - self.centre
        products = (features - self.centre) @ centres.T
        return (centres.square().sum(1) - 2 * products).argmin(1)

    def _count(self, total: Float[Tensor, " C"], own: Tensor, values: Tensor) -> None:
        total.index_add_(0, own, values.to(total))

    def spread(self) -> Spread:
        """Of all examples so far."""
        counts = self.geometry.features.counts
        errors: dict[str, float] = {}
        for name, (first, second) in self.sums.items():
            variances = (second - first.square() / counts).clamp(min=0)
            # A class of one example says nothing of its spread.
            errors[name] = float((variances * counts / (counts - 1).clamp(min=1)).sum().sqrt())
        return Spread(
            errors, self.whitened / counts, self.mismatches / counts, self.misplaced / counts
        )


@dataclass(frozen=True)
class _Slopes:
    """Derivatives of a functional in the moments."""

    means: Float[Tensor, "C D"]
    variances: Float[Tensor, " C"]
    unit_means: Float[Tensor, "C D"]
    unit_variances: Float[Tensor, " C"]
    factor: Float[Tensor, "D _"] | None

    def of(
        self,
        apart: Float[Tensor, "B D"],
        units: Float[Tensor, "B D"],
        own: Tensor,
        counts: Float[Tensor, " C"],
    ) -> Float[Tensor, " B"]:
        """ψ of each example, up to a constant of its class."""
        moved = torch.linalg.vecdot(self.means[own], apart)
        moved += self.variances[own] * apart.square().sum(1)
        if self.unit_means.any():  # of few functionals
            moved += torch.linalg.vecdot(self.unit_means[own], units)
            moved += self.unit_variances[own] * units.square().sum(1)
        moved /= counts[own]
        if self.factor is not None:
            moved += (apart @ self.factor).square().sum(1) / counts.sum()
        return moved


def _slopes(functional: Functional, statistics: Statistics) -> _Slopes:
    features, units = statistics
    leaves = [
        moment.detach().clone().requires_grad_()
        for moments in statistics
        for moment in (moments.means, moments.variances)
    ]
    value = functional.value(
        Statistics(
            replace(features, means=leaves[0], variances=leaves[1]),
            replace(units, means=leaves[2], variances=leaves[3]),
        )
    )
    means, variances, unit_means, unit_variances = torch.autograd.grad(
        value, leaves, allow_unused=True, materialize_grads=True
    )
    factor = None if functional.factor is None else functional.factor(statistics)
    return _Slopes(means, variances, unit_means, unit_variances, factor)
