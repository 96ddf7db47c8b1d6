"""What a classifier answers: margins with their sign, and accuracy at many parameter vectors."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import beta
from torch import Tensor

from gentheory.errors import InputError
from gentheory.examples import outputs_of, targets_of
from gentheory.losses import one_hot
from gentheory.parameter_sets import outputs_at
from gentheory.risk import EmpiricalRisk


class Quantile(NamedTuple):
    """A sample quantile and its standard error over the draw of the sample."""

    value: float
    stderr: float


def check_classes(place: str, risk: EmpiricalRisk) -> None:
    """Raise `InputError` unless targets are classes and there are at least two outputs."""
    targets = next(risk.batches())[1]
    if targets.dim() != 1 or targets.is_floating_point() or risk.num_outputs < 2:
        raise InputError(
            place,
            f"targets {targets.dtype} of shape {tuple(targets.shape)}, {risk.num_outputs} outputs",
            "classes [B] of torch.int64, and an output for each class",
            "use a measure that needs no classes, such as norms.spectral",
        )


def margins(place: str, risk: EmpiricalRisk) -> Float[Tensor, " N"]:
    """z_y − max over k ≠ y of z_k of each example, in float64; negative where it is misclassified.

    Raises `InputError` naming `place` where there are no classes.
    """
    check_classes(place, risk)
    outputs, targets = outputs_of(risk), targets_of(risk)
    own = one_hot(targets, outputs).bool()
    return outputs[own] - outputs.masked_fill(own, -torch.inf).amax(1)


def quantile(values: Float[Tensor, " N"], share: float) -> Quantile:
    """The quantile, linear between order statistics; `stderr` by Maritz and Jarrett (1978).

    That is what the bootstrap of the order statistic comes to with infinitely many resamples:
    Σ w_i x_(i)² − (Σ w_i x_(i))², w_i increments of a beta distribution. nan for one value.
    """
    ordered = np.sort(values.double().cpu().numpy())
    n = len(ordered)
    if n == 1:
        return Quantile(float(ordered[0]), float("nan"))
    rank = int(np.clip(np.floor(share * n + 0.5), 1, n))
    weights = np.diff(beta.cdf(np.arange(n + 1) / n, rank, n + 1 - rank))
    centre = weights @ ordered
    spread = weights @ np.square(ordered - centre)
    return Quantile(float(np.quantile(ordered, share)), float(np.sqrt(spread)))


def accuracies_at(risk: EmpiricalRisk, thetas: Float[Tensor, "K P"]) -> Float[Tensor, " K"]:
    """Share of the examples that each of the vectors classifies correctly, in float64."""
    correct = torch.zeros(len(thetas), dtype=torch.float64, device=risk.device)
    for chosen, outputs, targets in outputs_at(risk, thetas):
        correct[chosen] += (outputs.argmax(-1) == targets).sum(1)
    return correct / risk.num_examples


def positive_margin(place: str, risk: EmpiricalRisk) -> Quantile:
    """γ, the 10th percentile of the margins, where a measure divides by it.

    Raises `InputError` naming `place` where it is not positive.
    """
    found = quantile(margins(place, risk), 0.1)
    if not found.value > 0:
        raise InputError(
            place,
            f"a 10th percentile of the margins of {found.value:.3g}",
            "a positive one: nine in ten examples classified correctly",
            "train the net further, or use the measure without the margin",
        )
    return found
