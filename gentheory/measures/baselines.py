"""What one would pick instead: training loss, counts of parameters, information criteria, evidence.

The criteria take the loss for the negative log-likelihood of an example, up to a constant:
cross-entropy that of classes, "mse" that of a normal of variance C / 2. For another noise hand in
the loss as a callable. All values are per example, on the scale of the loss: those of `aic`, `bic`
and `gic` are the predicted gap, which the criterion adds to the training loss; those of `laplace`
hold the training loss already.
"""

import math
from dataclasses import replace

from torch import Generator

from gentheory.bases import eigenbases
from gentheory.checkpoint import Checkpoint
from gentheory.curvature.moments import check_size
from gentheory.estimate import Estimate
from gentheory.evidence import Precision, Spectrum, evidence_of
from gentheory.factors.diagonal import own_diagonals
from gentheory.factors.kronecker import eigenbasis
from gentheory.middles import Curvature
from gentheory.predicted import Damping, predicted_gap, sizes

__all__ = [
    "aic",
    "bic",
    "gic",
    "laplace",
    "laplace_diagonal",
    "laplace_exact",
    "parameter_count",
    "training_loss",
    "training_time",
]

_DAMPING = 1e-3
"""TIC's, where no weight decay makes the curvature regular."""


def training_loss(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """(1/n) Σ loss_i(θ) without weight decay. Exact.

    The lower the loss the larger the gap: as a measure of the gap its sign is negative.

    Cost: one forward pass.
    Source: Jiang et al. 2020 (arXiv 1912.02178), as the oracle of the training's end.
    """
    risk = checkpoint.risk
    penalty = risk.weight_decay / 2 * risk.theta.double().square().sum().item()
    return Estimate(_fit(checkpoint), stats={"penalty": penalty, **sizes(checkpoint)})


def training_time(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """T = Σ over steps of learning rate / (1 − momentum). Exact.

    Refused where the checkpoint does not know it.

    Cost: none.
    Source: Hardt et al. 2016 (arXiv 1509.01240), whose bound of the gap grows with it.
    """
    time = checkpoint.training_time_for("baselines.training_time")
    steps = {} if checkpoint.steps is None else {"steps": checkpoint.steps}
    return Estimate(time, stats=steps)


def parameter_count(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """P, the number of trainable parameters, tied ones once. Exact.

    Cost: none.
    Source: Jiang et al. 2020 (arXiv 1912.02178).
    """
    return Estimate(float(checkpoint.risk.num_params))


def aic(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """P / n, the gap that Akaike's information criterion predicts. Exact.

    It is that of a regular model that holds the truth. `stats["criterion"]` is AIC / 2n, the
    training loss with it.

    Cost: one forward pass.
    Source: Akaike 1974 (doi 10.1109/TAC.1974.1100705).
    """
    return _criterion(checkpoint, 1.0)


def bic(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """P log n / 2n, what Schwarz's Bayesian information criterion adds to the training loss. Exact.

    `stats["criterion"]` is BIC / 2n, about −log evidence / n of a regular model.

    Cost: one forward pass.
    Source: Schwarz 1978 (doi 10.1214/aos/1176344136).
    """
    return _criterion(checkpoint, math.log(checkpoint.num_training_examples) / 2)


def gic(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    damping: Damping | None = None,
    max_params: int = 5000,
    generator: Generator,
) -> Estimate:
    """tr((H + λI)⁻¹ Q) / n with Q = (1/n) Σ (h_i + λθ) h_iᵀ, h_i the gradients of the loss alone.

    The gap that the generalized information criterion predicts under the risk's weight decay λ.
    Q is that of the mean test loss without the penalty; at a minimum of the risk the value is
    that of `tic.exact`. `damping` is `tic.exact`'s; left out, it is 0 with weight decay and 1e-3
    without. `stderr` as there. Refused above `max_params`.

    Cost: as `tic.exact`, and free beside it.
    Source: Konishi & Kitagawa 1996 (doi 10.1093/biomet/83.4.875).
    """
    risk = checkpoint.risk
    check_size("baselines.gic", risk.num_params, max_params)
    if damping is None:
        damping = 0.0 if risk.weight_decay else _DAMPING
    basis = eigenbases(risk, curvature, generator)[0]
    modes = basis.modes(risk, centred=False)
    decay = risk.weight_decay * (basis.vectors.T @ risk.theta.double())
    modes = replace(modes, covariance=modes.covariance - decay * modes.gradient)
    found = predicted_gap(checkpoint, modes, curvature, damping, None, truncated=False)
    return replace(found, stats={**found.stats, "criterion": _fit(checkpoint) + found.value})


def laplace(
    checkpoint: Checkpoint, *, prior_precision: Precision = "decay", generator: Generator
) -> Estimate:
    """−log evidence / n by Laplace: loss + (τ|θ|² + Σ log(1 + n c_k / τ)) / 2n; c_k of A ⊗ S.

    The GGN by its Kronecker factors, weights and biases apart, all else by its diagonal. The
    prior's precision τ is n · weight decay ("decay"), or where there is none, and for "best",
    that of the largest evidence at these parameters. `stats` hold fit and Occam factor, whose
    sum the value is. `stderr` is 0: it does not cover the approximation.

    Cost: one forward and C + 1 backward passes, and D³ for layers of D inputs or outputs.
    Source: MacKay 1992 (doi 10.1162/neco.1992.4.3.415); Immer et al. 2021 (arXiv 2104.04975).
    """
    risk = checkpoint.risk
    basis = eigenbasis(risk, "ggn", generator)
    spectrum = Spectrum(
        basis.curvature,
        basis.coordinates(basis.gradient),
        basis.coordinates(risk.theta.double()),
        checkpoint.num_training_examples,
    )
    return evidence_of(checkpoint, spectrum, prior_precision)


def laplace_diagonal(
    checkpoint: Checkpoint, *, prior_precision: Precision = "decay", generator: Generator
) -> Estimate:
    """`laplace` with the GGN cut down to its diagonal: c_p = H_pp.

    `stderr` as in `laplace`.

    Cost: one forward and C + 1 backward passes.
    Source: MacKay 1992 (doi 10.1162/neco.1992.4.3.448).
    """
    risk = checkpoint.risk
    found = own_diagonals(risk, "ggn", generator)
    count = checkpoint.num_training_examples
    spectrum = Spectrum(found.curvature, found.gradient, risk.theta.double(), count)
    return evidence_of(checkpoint, spectrum, prior_precision)


def laplace_exact(
    checkpoint: Checkpoint,
    *,
    prior_precision: Precision = "decay",
    max_params: int = 5000,
    generator: Generator,
) -> Estimate:
    """`laplace` with the eigenvalues c_k of the GGN itself.

    Exact for a model linear in its parameters with a normal likelihood, at the mode. `stderr` as
    in `laplace`. Refused above `max_params`.

    Cost: as `tic.exact`, and free beside it.
    Source: MacKay 1992 (doi 10.1162/neco.1992.4.3.415).
    """
    risk = checkpoint.risk
    check_size("baselines.laplace_exact", risk.num_params, max_params)
    basis = eigenbases(risk, "ggn", generator)[0]
    theta = basis.vectors.T @ risk.theta.double()
    count = checkpoint.num_training_examples
    spectrum = Spectrum(basis.values, basis.gradient, theta, count)
    return evidence_of(checkpoint, spectrum, prior_precision)


def _fit(checkpoint: Checkpoint) -> float:
    return checkpoint.risk.example_losses().double().mean().item()


def _criterion(checkpoint: Checkpoint, of_each: float) -> Estimate:
    """`of_each` parameter, over n, and the training loss with it."""
    gap = checkpoint.risk.num_params * of_each / checkpoint.num_training_examples
    return Estimate(gap, stats={"criterion": _fit(checkpoint) + gap, **sizes(checkpoint)})
