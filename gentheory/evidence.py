"""Laplace's approximation of the evidence, from the curvature's eigenvalues (MacKay 1992).

With the loss as the negative log-likelihood ℓ_i of an example, a normal prior of precision τ on
each of P parameters and c_k the eigenvalues of the mean loss's curvature at the trained θ,

    −log p(data) ≈ Σ ℓ_i(θ) + τ/2 |θ|² − P/2 log τ + ½ Σ_k log(n c_k + τ),

exact where the likelihood is normal in the parameters and θ the mode.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from jaxtyping import Float
from scipy.optimize import root_scalar
from torch import Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.predicted import sizes

Precision: TypeAlias = float | Literal["decay", "best"]
"""τ; of the weight decay, n · weight decay; or that of the largest evidence."""


@dataclass(frozen=True)
class Spectrum:
    """The data's part of the curvature where it is diagonal, in float64, and what else bends it."""

    curvature: Float[Tensor, " P"]
    gradient: Float[Tensor, " P"]
    """Of the mean loss, in the same coordinates."""
    theta: Float[Tensor, " P"]
    count: int
    """Examples trained on, n."""

    @property
    def seen(self) -> Float[Tensor, " P"]:
        """n c_k; what is negative is rounding."""
        return self.count * self.curvature.clamp(min=0)

    def occam(self, precision: float) -> float:
        """What the evidence takes from the fit, over n: prior and posterior volume; nonnegative."""
        prior = precision * self.theta.square().sum() + (self.seen / precision).log1p().sum()
        return float(prior) / (2 * self.count)

    def effective(self, precision: float) -> float:
        """MacKay's number of well-determined parameters, Σ n c / (n c + τ)."""
        return float((self.seen / (self.seen + precision)).sum())

    def newton_decrement(self, precision: float) -> float:
        """By which the penalized mean loss would still fall in a Newton step."""
        ridge = precision / self.count
        slope = self.gradient + ridge * self.theta
        return float((slope.square() / (self.seen / self.count + ridge)).sum()) / 2

    def best_precision(self) -> float:
        """τ of the largest evidence at this θ: where τ |θ|² = Σ n c / (n c + τ), which is one τ.

        Raises `InputError` where there is none: no curvature at all, or parameters all zero.
        """
        norm, top = float(self.theta.square().sum()), float(self.seen.max())
        if not (norm > 0 and top > 0):
            raise InputError(
                "prior_precision",
                "no curvature at all" if norm > 0 else "parameters that are all zero",
                "an evidence with a maximum",
                "give prior_precision as a number",
            )
        low, high = min(top, 1 / (2 * norm)), len(self.theta) / norm
        found = root_scalar(
            lambda log: self.effective(math.exp(log)) - math.exp(log) * norm,
            bracket=(math.log(low) - 1, math.log(high) + 1),
            xtol=1e-12,
        )
        return math.exp(found.root)


def evidence_of(checkpoint: Checkpoint, spectrum: Spectrum, precision: Precision) -> Estimate:
    """−log p(data) / n, and what it is made of."""
    tau = _precision(checkpoint, spectrum, precision)
    fit = float(checkpoint.risk.example_losses().double().mean())
    occam, effective = spectrum.occam(tau), spectrum.effective(tau)
    decrement = spectrum.newton_decrement(tau)
    off = "not at a mode: the loss would still fall by more than the posterior's spread raises it"
    return Estimate(
        fit + occam,
        warnings=(off,) if decrement > effective / (2 * spectrum.count) else (),
        stats={
            "log_evidence": -spectrum.count * (fit + occam),
            "fit": fit,
            "occam_factor": occam,
            "prior_precision": tau,
            "effective_parameters": effective,
            "newton_decrement": decrement,
            **sizes(checkpoint),
        },
    )


def _precision(checkpoint: Checkpoint, spectrum: Spectrum, precision: Precision) -> float:
    if precision == "best":
        return spectrum.best_precision()
    if precision == "decay":
        decay = checkpoint.risk.weight_decay
        return decay * spectrum.count if decay else spectrum.best_precision()
    if not 0 < precision < math.inf:
        raise InputError("prior_precision", f"{precision:g}", "a number above 0", "raise it")
    return precision
