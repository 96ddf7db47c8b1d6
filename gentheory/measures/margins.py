"""Margins of the training examples, z_y − max over k ≠ y of z_k, with their sign."""

import math

import torch
from torch import Generator

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.predictions import margins, positive_margin, quantile
from gentheory.weights import Weights

__all__ = ["inverse_square", "normalized", "output"]

_SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def output(checkpoint: Checkpoint, *, share: float = 0.1, generator: Generator) -> Estimate:
    """γ, the 10th percentile of the margins z_y − max over k ≠ y of z_k; negative where it is.

    `share` asks for another quantile; `stats` has several, the mean, and the share of examples
    whose margin is not positive. `stderr` covers the draw of the examples (Maritz & Jarrett 1978).
    Refused without classes.

    Cost: one forward pass.
    Source: Jiang et al. 2020 (arXiv 1912.02178).
    """
    return _distribution("margins.output", checkpoint, share)


def normalized(checkpoint: Checkpoint, *, share: float = 0.1, generator: Generator) -> Estimate:
    """γ / Π_l ‖W_l‖₂, the quantile of the margins over the product of spectral norms.

    That product bounds how fast the outputs change with the inputs where the activations are
    1-Lipschitz and layers follow one another. `stderr` covers the draw of the examples, and the
    residual of Lanczos on convolutions. Refused without classes.

    Cost: one forward pass, and that of `norms.spectral`.
    Source: Bartlett, Foster & Telgarsky 2017 (arXiv 1706.08498), without its norm of the inputs.
    """
    own = _distribution("margins.normalized", checkpoint, share)
    weights = Weights.of(checkpoint, "margins.normalized")
    squares, errors = weights.spectral()
    product = math.exp(float(squares.log().sum()) / 2)
    rounding = abs(own.value) * float((errors / squares).sum()) / 2
    stats = {
        **own.stats,
        "quantiles": [value / product for value in own.stats["quantiles"]],
        "mean": own.stats["mean"] / product,
        "spectral_product": product,
    }
    return Estimate(
        own.value / product,
        math.hypot(own.stderr, rounding) / product,
        warnings=weights.warnings,
        stats=stats,
    )


def inverse_square(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """1 / γ² (22), γ the 10th percentile of the margins.

    Refused where γ is not positive: the square would take errors for confidence. `stderr` covers
    the draw of the examples, to first order.

    Cost: one forward pass.
    Source: Jiang et al. 2020 (arXiv 1912.02178), eq. 22.
    """
    margin = positive_margin("margins.inverse_square", checkpoint.risk)
    value = margin.value**-2
    reported = math.sqrt(value / checkpoint.num_training_examples)
    stats = {"margin": margin.value, "margin_stderr": margin.stderr, "as_reported": reported}
    return Estimate(value, 2 * value * margin.stderr / margin.value, stats=stats)


def _distribution(place: str, checkpoint: Checkpoint, share: float) -> Estimate:
    if not 0 <= share <= 1:
        raise InputError(f"{place}.share", str(share), "0 to 1", "give such a number")
    values = margins(place, checkpoint.risk)
    found = quantile(values, share)
    levels = torch.tensor(_SHARES, dtype=values.dtype, device=values.device)
    stats = {
        "shares": list(_SHARES),
        "quantiles": values.quantile(levels).tolist(),
        "mean": float(values.mean()),
        "share_not_positive": float((values <= 0).double().mean()),
    }
    return Estimate(found.value, found.stderr, stats=stats)
