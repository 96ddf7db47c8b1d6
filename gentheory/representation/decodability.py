"""How well linear decoders read features from a net's layers: V-information with ridge regression.

Held out exactly: each example is predicted by the decoder fitted to all others, in closed form
(PRESS), so that neither a split nor its randomness comes in.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Complexity:
    """1 − (1/L) Σ_l I_V(f_l → z) of each feature z, I_V relative to z's variance, not below 0."""

    features: Float[Tensor, " D"]
    layers: Float[Tensor, " L"]
    """Mean over the features of what is decoded from each layer."""
    influence: Float[Tensor, " N"]
    """What each example adds to the mean complexity, to first order in the decoders' errors."""

    @property
    def value(self) -> float:
        """Mean over the features."""
        return float(self.features.mean())

    @property
    def stderr(self) -> float:
        """Over the draw of the examples that the decoders are judged on."""
        count = len(self.influence)
        return float(self.influence.std() / math.sqrt(count)) if count > 1 else math.nan


def complexity(
    grams: Iterable[Float[Tensor, "N N"]], features: Float[Tensor, "N D"], ridge: float
) -> Complexity:
    """Of features that all vary, read from layers given by the Gram matrices of their features."""
    count = len(features)
    blind = ((features - features.mean(0)) * (count / (count - 1))).square()
    whole = blind.mean(0)
    missed: list[Tensor] = []
    influence = torch.zeros(count, dtype=features.dtype, device=features.device)
    for gram in grams:
        errors = left_out_residuals(gram, features, ridge).square()
        ratio = errors.mean(0) / whole
        # Where nothing is decoded the share is 0 whatever the examples.
        influence += torch.where(ratio < 1, (errors - ratio * blind) / whole, 0.0).mean(1)
        missed.append(ratio.clamp(max=1))
    table = torch.stack(missed)
    return Complexity(table.mean(0), 1 - table.mean(1), influence / len(missed))


def left_out_residuals(
    gram: Float[Tensor, "N N"], targets: Float[Tensor, "N D"], ridge: float
) -> Float[Tensor, "N D"]:
    """Errors of ridge regression with an intercept, each example predicted by the others alone.

    The penalty is `ridge` times the mean of the diagonal of the Gram matrix. With
    C = (K + λ)⁻¹ and M = C − C11ᵀC / 1ᵀC1, the error of example i is (M y)_i / M_ii.
    """
    penalty = ridge * gram.diagonal().mean()
    if not penalty > 0:  # features that do not vary decode nothing
        gram, penalty = torch.zeros_like(gram), torch.ones_like(penalty)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram + penalty * eye))
    rows = inverse.sum(1)
    middle = inverse - torch.outer(rows, rows) / rows.sum()
    return (middle @ targets) / middle.diagonal()[:, None]
