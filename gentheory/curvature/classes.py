"""Papyan's decomposition of the GGN by the classes of the examples.

(Papyan 2019, Measurements of Three-Level Hierarchical Structure in the Outliers in the Spectrum
of Deepnet Hessians.) With the loss's Hessian in the outputs Λ_i = Σ_k w_ik d_ik d_ikᵀ, the GGN is
the second moment of the vectors g_ik = J_iᵀ d_ik with weights w_ik / N. For the cross-entropy w_ik
is the probability of class k and d_ik the loss's gradient if that were the target.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.curvature.ggn import ggn
from gentheory.errors import InputError
from gentheory.linalg import Eigenpairs, LinearOperator, extremes
from gentheory.risk import EmpiricalRisk


@dataclass(frozen=True)
class ClassMeans:
    """For each class c of examples the weighted mean of g_ik over i in c and k ≠ c."""

    classes: list[int]
    weighted: Float[Tensor, "C P"]  # √w_c times the mean; the between-class part's root; float64
    cross: float  # trace of the classes' (c, k) means around it
    own: float  # trace of the part of k = c

    def spectrum(self) -> Float[Tensor, " C"]:
        """Eigenvalues of the between-class part that may not be 0, largest first."""
        return torch.linalg.eigvalsh(self.weighted @ self.weighted.T).flip(0)


@dataclass(frozen=True)
class ClassExtremes:
    """The extreme eigenvalues of each class's own curvature."""

    classes: list[int]
    smallest: Float[Tensor, " C"]
    largest: Float[Tensor, " C"]
    residuals: Float[Tensor, " C"]  # the larger of the two pairs'
    converged: bool

    def table(self) -> dict[str, list[Any]]:
        """Classes and both ends as plain lists."""
        ends = {"smallest": self.smallest.tolist(), "largest": self.largest.tolist()}
        return {"classes": self.classes, **ends}


def class_extremes(
    risk: EmpiricalRisk,
    curvature: Callable[[EmpiricalRisk], LinearOperator],
    classes: Sequence[int] | None,
    rtol: float,
    max_steps: int,
    generator: Generator,
) -> ClassExtremes:
    """From one Lanczos run a class, on the class's examples; all classes unless some are given.

    Raises `InputError` for a class without examples, and where targets are not classes.
    """
    labels: list[int] = []
    low: list[Eigenpairs] = []
    high: list[Eigenpairs] = []
    for label, part in _chosen(by_class(risk, "spectra.by_class"), classes):
        ends = extremes(curvature(part), rtol=rtol, max_steps=max_steps, generator=generator)
        labels.append(label)
        low.append(ends[0])
        high.append(ends[1])
    lows, highs = (torch.cat([pair.values for pair in end]) for end in (low, high))
    errors = [torch.cat([pair.residuals for pair in end]) for end in (low, high)]
    met = all(pair.converged for pair in [*low, *high])
    return ClassExtremes(labels, lows, highs, torch.maximum(*errors), met)


def _chosen(
    parts: Iterator[tuple[int, EmpiricalRisk]], classes: Sequence[int] | None
) -> Iterator[tuple[int, EmpiricalRisk]]:
    if classes is None:
        yield from parts
        return
    found = dict(parts)
    if not classes or not set(classes) <= set(found):
        expected = f"some of {', '.join(map(str, found))}, which have examples"
        raise InputError("spectra.by_class.classes", str(list(classes)), expected, "choose others")
    yield from ((label, found[label]) for label in classes)


def by_class(risk: EmpiricalRisk, place: str) -> Iterator[tuple[int, EmpiricalRisk]]:
    """The risk on the examples of each class that there are any of.

    Raises `InputError` where the targets are not classes.
    """
    found: set[int] = set()
    for _, targets in risk.batches():
        if targets.dim() != 1 or targets.is_floating_point():
            raise InputError(
                place,
                f"targets of {targets.dtype} [{', '.join('N' * targets.dim())}]",
                "classes, whole numbers [N]",
                "use a measure that needs no classes",
            )
        found.update(targets.unique().tolist())
    for label in sorted(found):
        yield label, risk.restricted(lambda targets, label=label: targets == label)


def class_means(risk: EmpiricalRisk, place: str) -> ClassMeans:
    """As many backward passes over the data as outputs; takes 2 C vectors of size P."""
    labels: list[int] = []
    rows: list[Tensor] = []
    cross = own = 0.0
    for label, part in by_class(risk, place):
        sums, weights = _sums(part)
        sums, weights = sums / risk.num_examples, weights / risk.num_examples
        squares = sums.square().sum(1) / weights.where(weights > 0, 1.0)
        others = torch.arange(len(sums), device=sums.device) != label
        root = sums[others].sum(0) / weights[others].sum().clamp(min=1e-300).sqrt()
        labels.append(label)
        rows.append(root)
        cross += float(squares[others].sum() - root.square().sum())
        own += float(squares[~others].sum())
    return ClassMeans(labels, torch.stack(rows), cross, own)


def beside_class_means(risk: EmpiricalRisk, means: ClassMeans) -> LinearOperator:
    """The GGN, weight decay left out, less its between-class part."""
    operator, rows = ggn(risk), means.weighted.to(risk.dtype)

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        return operator(v) - risk.weight_decay * v - (v @ rows.T) @ rows

    return replace(operator, block=block)


def _sums(risk: EmpiricalRisk) -> tuple[Float[Tensor, "C P"], Float[Tensor, " C"]]:
    """Σ_i w_ik g_ik and Σ_i w_ik over all examples."""
    total: Tensor | float = 0.0
    weights: Tensor | float = 0.0
    for inputs, targets in risk.batches():
        pulled = torch.func.vjp(lambda theta, x=inputs: risk.outputs(theta, x), risk.theta)
        outputs, pull = pulled[0], pulled[1]
        w, d = risk.loss.directions(outputs.detach(), targets)
        cotangents = (w[:, :, None] * d).movedim(1, 0).to(outputs)
        total = total + torch.func.vmap(lambda u, pull=pull: pull(u)[0])(cotangents).double()
        weights = weights + w.double().sum(0)
    return torch.as_tensor(total), torch.as_tensor(weights)
