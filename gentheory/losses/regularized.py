"""Cross-entropy with a change of its targets or a term in the outputs."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.errors import InputError
from gentheory.losses.base import Loss, check_targets, one_hot
from gentheory.losses.likelihoods import CrossEntropy, cross_entropy, cross_entropy_values


@dataclass(frozen=True)
class Smoothed(CrossEntropy):
    """Cross-entropy with the targets (1 - ε) y + ε / C  (Szegedy et al. 2016).

    Smoothing changes the targets, not the model: its likelihood, and so the Fisher information
    and the targets drawn for it, are those of plain cross-entropy.
    """

    smoothing: float

    def wanted(self, targets: Tensor, outputs: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        return _smooth(one_hot(targets, outputs), self.smoothing)

    def score(self, outputs: Float[Tensor, "B C"], samples: Tensor) -> Float[Tensor, "B C"]:
        return cross_entropy.gradient(outputs, samples)


@dataclass(frozen=True)
class MaxSuppressed(CrossEntropy):
    """Cross-entropy + α (max_k f_k - mean f): MaxSup (Zhou et al. 2025).

    Label smoothing is cross-entropy + α (f_y - mean f), but for a target that is not the largest
    output, where it widens the error. The term has no curvature, but no likelihood either.
    """

    strength: float

    def gradient(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C"]:
        top = one_hot(outputs.argmax(-1), outputs.double())
        return super().gradient(outputs, targets) + self.strength * (top - 1 / outputs.shape[-1])

    # The residuals no longer tell the mean probabilities.
    mean_hessian = Loss.mean_hessian
    fisher = Loss.fisher
    sample = Loss.sample


@dataclass(frozen=True)
class Squentropy(Loss):
    """Cross-entropy + rescale / (C - 1) Σ_{j≠y} f_j²  (Hui, Belkin and Wright 2023).

    The paper's has `rescale` 1. For probabilities as targets it is their mean over the classes.
    """

    rescale: float

    def check(self, targets: Tensor, num_outputs: int, *, start: int = 0) -> None:
        check_targets(targets, num_outputs, start)

    def gradient(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C"]:
        pull = 2 * _share_of_others(targets, outputs.double(), self.rescale) * outputs.double()
        return cross_entropy.gradient(outputs, targets) + pull

    def hessian(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C C"]:
        own = 2 * _share_of_others(targets, outputs.double(), self.rescale)
        return cross_entropy.hessian(outputs, targets) + torch.diag_embed(own)

    def hessian_trace(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, " B"]:
        own = 2 * _share_of_others(targets, outputs.double(), self.rescale)
        return cross_entropy.hessian_trace(outputs, targets) + own.sum(-1)


def smoothed(smoothing: float) -> Loss:
    """Cross-entropy with label smoothing ε in [0, 1); 0 is plain cross-entropy."""
    _within("label_smoothing", smoothing, below=1)

    def values(outputs: Tensor, targets: Tensor) -> Tensor:
        rows = _smooth(one_hot(targets, outputs.double()), smoothing)
        return cross_entropy_values(outputs, rows)

    return Smoothed("cross_entropy", values, smoothing)


def max_suppressed(strength: float) -> Loss:
    """MaxSup with weight α ≥ 0."""
    _within("max_sup", strength)

    def values(outputs: Tensor, targets: Tensor) -> Tensor:
        doubled = outputs.double()
        lead = doubled.amax(-1) - doubled.mean(-1)
        return cross_entropy_values(outputs, targets) + strength * lead

    return MaxSuppressed("cross_entropy", values, strength)


def squentropy(rescale: float = 1.0) -> Loss:
    """Squentropy with weight `rescale` ≥ 0 of the squares; 1 is the paper's."""
    _within("rescale", rescale)

    def values(outputs: Tensor, targets: Tensor) -> Tensor:
        doubled = outputs.double()
        squares = _share_of_others(targets, doubled, rescale) * doubled.square()
        return cross_entropy_values(outputs, targets) + squares.sum(-1)

    return Squentropy("squentropy", values, rescale)


def _smooth(rows: Float[Tensor, "B C"], smoothing: float) -> Float[Tensor, "B C"]:
    return rows.lerp(rows.mean(-1, keepdim=True).expand_as(rows), smoothing)


def _share_of_others(
    targets: Tensor, outputs: Float[Tensor, "B C"], rescale: float
) -> Float[Tensor, "B C"]:
    """rescale / (C - 1) for each class that is not the target."""
    wanted = one_hot(targets, outputs)
    return rescale / (outputs.shape[-1] - 1) * (wanted.sum(-1, keepdim=True) - wanted)


def _within(place: str, value: float, *, below: float = float("inf")) -> None:
    if not 0 <= value < below:
        expected = "0 or more" if below == float("inf") else f"0 to below {below:g}"
        raise InputError(f"loss, {place}", f"{value}", expected, "give such a number")
