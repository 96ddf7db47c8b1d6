"""Class weights in the loss that the steps of training lower, against class imbalance.

As with augmentation, only the steps see them: losses, curves and measures are those of the
examples with equal weights.
"""

from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from gentheory.errors import InputError
from gentheory.losses import Loss
from gentheory.training.gradient import Objective


def class_weights(
    targets: Int[Tensor, " N"], num_classes: int, beta: float
) -> Float64[Tensor, " C"]:
    """w_c ∝ (1 − β) / (1 − β^n_c), n_c the examples of class c; 1 / n_c at β = 1; in float64.

    The inverse of the effective number of examples (Cui et al. 2019, Class-Balanced Loss), but in
    the mean over the examples the weights are 1, so that the learning rate keeps its meaning. 0
    for a class without examples. Raises `InputError` for targets that are no classes.
    """
    if targets.is_floating_point():
        found, cure = f"targets of {targets.dtype}", "drop it, or train on classes"
        raise InputError("class_balance", found, "classes", cure)
    counts = torch.bincount(targets, minlength=num_classes).double()
    present = counts > 0
    # expm1 and log1p: 1 − β^n has no digits left where β is near 1.
    log = torch.log1p(torch.tensor(beta - 1, dtype=torch.float64))
    size = counts if beta == 1 else torch.expm1(counts * log) / (beta - 1)
    weights = torch.where(present, 1 / size, 0.0)
    return weights * len(targets) / (weights * counts).sum()


def objective(loss: Loss) -> Objective:
    """The mean over a batch of weight times loss; takes (targets, weights [B])."""

    def value(outputs: Tensor, targets: Any) -> Tensor:
        targets, weights = targets
        return (weights * loss.values(outputs, targets)).mean()

    return value


def weighted(
    targets: Int[Tensor, "M B"], weights: Float64[Tensor, " C"] | None
) -> tuple[Int[Tensor, "M B"], Float[Tensor, "M B"]]:
    """Targets as `objective` takes them; of weight 1 without weights."""
    if weights is None:
        return targets, torch.ones_like(targets, dtype=torch.float64)
    return targets, weights[targets]
