"""Singular learning theory: the local learning coefficient and WBIC, by Langevin chains.

n examples fitted to a mean loss L_n leave a posterior exp(-nβ L_n(w)) around the parameters w*, at
the inverse temperature β = 1 / log n (`nbeta` is n / log n unless given). How fast its mean loss
comes down to L_n(w*) is a count of parameters that does not mind singularities: P / 2 for a regular
model, less where directions are redundant. The chains run as one stack from w*, on the loss of the
data alone in eval mode; L_n(w*) is that of all examples, and where a step sees a minibatch the
excess is taken against the same examples. `localization` γ is a normal prior around w* that keeps
the chains there; it takes from the coefficient (½ γ / (nβ h + γ) for a direction of curvature h).
"""

import math

from torch import Generator

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.sgld import Chains, Potential, langevin
from gentheory.stats.chains import ChainMean, chain_mean

__all__ = ["learning_coefficient", "wbic"]

_RHAT = 1.1
_DRIFT = 4.0
_ACCEPTED = 0.2
_BIASED = 0.1


def learning_coefficient(
    checkpoint: Checkpoint,
    *,
    nbeta: float | None = None,
    localization: float = 1.0,
    step_size: float | None = None,
    num_chains: int = 4,
    num_steps: int = 300,
    burn_in: int = 200,
    batch_size: int | None = 1024,
    generator: Generator,
) -> Estimate:
    """λ̂ = nβ (E[L_n(w)] − L_n(w*)), w drawn from exp(-nβ L_n(w) − γ/2 |w − w*|²).

    `stderr` covers the draw of the chains, autocorrelation counted; not their distance from the
    stationary distribution, for which `stats` hold R-hat and drift, nor the pull of γ. With
    `batch_size` examples at most (None: however many) a step sees them all and has a Metropolis
    test, so that its size biases nothing; on more it sees a minibatch, and nothing tests it but
    `stats["acceptance"]`. Without `step_size` it is chosen by that acceptance. Weight decay plays
    no part. A negative value means that w* is not a minimum: it comes with a warning.

    Cost: (num_steps + burn_in + about 60) · num_chains forward and backward passes of a batch.
    Source: Lau et al. 2023 (arXiv 2308.12108).
    """
    potential = _potential(checkpoint, nbeta, localization, 0.0, batch_size)
    chains = _run(potential, step_size, num_chains, num_steps, burn_in, generator)
    mean = chain_mean((potential.nbeta * chains.excess).cpu().numpy())
    negative = ("negative: the parameters are not at a minimum of the loss",)
    return Estimate(
        mean.value,
        mean.stderr,
        warnings=(*(negative if mean.value < 0 else ()), *_warnings(mean, chains, mean.value)),
        stats=_stats(potential, chains, mean),
    )


def wbic(
    checkpoint: Checkpoint,
    *,
    nbeta: float | None = None,
    localization: float = 1.0,
    step_size: float | None = None,
    num_chains: int = 4,
    num_steps: int = 300,
    burn_in: int = 200,
    batch_size: int | None = 1024,
    generator: Generator,
) -> Estimate:
    """WBIC / n = E[L_n(w)], w drawn from exp(-nβ L_n(w)) φ(w): about −log evidence / n.

    The prior φ is normal: the risk's weight decay λ as exp(-nλ/2 |w|²), `localization` as
    exp(-γ/2 |w − w*|²). `stats["total"]` is WBIC itself, for the loss as the negative
    log-likelihood of an example. `stderr` as in `learning_coefficient`, on the scale of the value.

    Cost: as `learning_coefficient`.
    Source: Watanabe 2013 (arXiv 1208.6338).
    """
    risk = checkpoint.risk
    decay = risk.weight_decay * risk.num_examples
    potential = _potential(checkpoint, nbeta, localization, decay, batch_size)
    chains = _run(potential, step_size, num_chains, num_steps, burn_in, generator)
    mean = chain_mean(chains.excess.cpu().numpy())
    initial = potential.initial_loss
    return Estimate(
        initial + mean.value,
        mean.stderr,
        warnings=_warnings(mean, chains, potential.nbeta * mean.value),
        stats={
            "total": risk.num_examples * (initial + mean.value),
            **_stats(potential, chains, mean),
        },
    )


def _potential(
    checkpoint: Checkpoint,
    nbeta: float | None,
    localization: float,
    decay: float,
    batch_size: int | None,
) -> Potential:
    count = checkpoint.risk.num_examples
    if nbeta is None:
        if count < 2:
            raise InputError(
                "nbeta", "n / log n of 1 example", "2 examples or more", "give nbeta as a number"
            )
        nbeta = count / math.log(count)
    for name, value in (("nbeta", nbeta), ("localization", localization)):
        if not 0 <= value < math.inf or (name == "nbeta" and value == 0):
            raise InputError(name, f"{value:g}", "a number above 0", "give such a number")
    if batch_size is not None and batch_size < 1:
        raise InputError("batch_size", str(batch_size), "1 or more, or None for all", "raise it")
    return Potential(checkpoint.risk, nbeta, localization, decay, batch_size)


def _run(
    potential: Potential,
    step_size: float | None,
    num_chains: int,
    num_steps: int,
    burn_in: int,
    generator: Generator,
) -> Chains:
    for name, value, least in (
        ("num_chains", num_chains, 1),
        ("num_steps", num_steps, 8),
        ("burn_in", burn_in, 0),
    ):
        if value < least:
            raise InputError(name, str(value), f"{least} or more", "raise it")
    if step_size is not None and not 0 < step_size < math.inf:
        raise InputError("step_size", f"{step_size:g}", "a number above 0", "leave it out")
    size = potential.batch_size
    chains = langevin(
        potential,
        adjusted=size is None or size >= potential.risk.num_examples,
        num_chains=num_chains,
        num_steps=num_steps,
        burn_in=burn_in,
        step_size=step_size,
        generator=generator,
    )
    if not chains.excess.isfinite().all():
        raise ArithmeticError(
            f"a chain diverged at step_size = {chains.step_size:.3g}: lower it, or raise "
            f"localization (now {potential.localization:g})"
        )
    return chains


def _warnings(mean: ChainMean, chains: Chains, coefficient: float) -> tuple[str, ...]:
    """Why the chains may not have reached what they are to sample; `coefficient` is λ̂."""
    noisy = "the noise of the minibatches biases the value: raise batch_size or lower step_size"
    found = {
        f"R-hat {mean.rhat:.2f} is above {_RHAT}: run longer chains": mean.rhat > _RHAT,
        "the loss still drifts: raise burn_in": abs(mean.drift) > _DRIFT,
        f"only {chains.acceptance:.2f} of the steps would be accepted: lower step_size": (
            chains.acceptance < _ACCEPTED
        ),
        noisy: chains.minibatch_bias > _BIASED * abs(coefficient),
    }
    return tuple(text for text, applies in found.items() if applies)


def _stats(potential: Potential, chains: Chains, mean: ChainMean) -> dict[str, object]:
    draws = potential.nbeta * chains.excess
    return {
        "nbeta": potential.nbeta,
        "localization": potential.localization,
        "step_size": chains.step_size,
        "acceptance": chains.acceptance,
        "minibatch_bias": chains.minibatch_bias,
        "initial_loss": potential.initial_loss,
        "chain_coefficients": draws.mean(1).tolist(),
        "effective_size": mean.effective_size,
        "rhat": mean.rhat,
        "drift": mean.drift,
        "num_chains": len(draws),
        "num_steps": draws.shape[1],
        "num_examples": potential.risk.num_examples,
        "num_params": potential.risk.num_params,
    }
