"""Noise and coherence of the examples' gradients g_i at the trained parameters.

g_i is the gradient of example i's loss alone: weight decay, the same for all examples, has no part
in the noise, and the papers' signal is that of the data. C is the covariance of the g_i with the
divisor N − 1. Means and pair sums are exact for the examples at hand, out of ghost norms and one
forward-mode pass, without a Jacobian; `stderr` covers the draw of those examples, by leaving out
each in turn (jackknife, which costs nothing more).
"""

import torch
from torch import Generator

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.factors.diagonal import gradient_moments
from gentheory.factors.dispersion import Dispersion
from gentheory.risk import EmpiricalRisk

__all__ = ["coherence", "gsnr", "scale", "stiffness", "variance"]


def scale(checkpoint: Checkpoint, *, unbiased: bool = False, generator: Generator) -> Estimate:
    """tr C / |ḡ|², the simple noise scale: the batch size at which noise and signal are equal.

    |ḡ|² is that of the N examples at hand, as SGD on them has it; as an estimate for the
    distribution they come from it is too large by tr C / N, so that the scale stays below N.
    `unbiased` takes that off, with `stats["squared_signal"]` below the line, and refuses where
    nothing is left. `stderr`: the draw of the examples, by the jackknife. No weight decay.

    Cost: two backward passes and a forward-mode one.
    Source: McCandlish, Kaplan, Amodei et al. 2018 (arXiv 1812.06162), B_simple and appendix A.1.
    """
    found = _dispersion(checkpoint.risk, "scale", least=3)
    whole = found.all
    stats = {
        "variance": whole.variance.item(),
        "squared_gradient": whole.square_of_mean.item(),
        "squared_signal": whole.pairs.item(),
        "num_examples": whole.count,
    }
    signal = stats["squared_signal"] if unbiased else stats["squared_gradient"]
    if not signal > 0:
        raise InputError(
            "noise.scale",
            f"a squared gradient of {signal:g}" + (" beside its noise" if unbiased else ""),
            "more than 0",
            "use unbiased=False or more examples" if unbiased else "use noise.variance",
        )
    value, error = found.jackknife(
        lambda sums: sums.variance / (sums.pairs if unbiased else sums.square_of_mean)
    )
    return Estimate(value, error, stats=stats)


def variance(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """tr C = Σ_i |g_i − ḡ|² / (N − 1), the variance of the gradients summed over the parameters.

    Unbiased. `stderr`: the draw of the examples, by the jackknife. No weight decay.
    `stats["per_parameter"]` is tr C / P.

    Cost: two backward passes and a forward-mode one.
    Source: Jiang et al. 2020 (arXiv 1912.02178).
    """
    risk = checkpoint.risk
    found = _dispersion(risk, "variance", least=3)
    value, error = found.jackknife(lambda sums: sums.variance)
    stats = {
        "per_parameter": value / risk.num_params,
        "squared_gradient": found.all.square_of_mean.item(),
        "num_examples": found.all.count,
    }
    return Estimate(value, error, stats=stats)


def gsnr(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """Mean over parameters of ḡ_j² / var_j, the gradients' signal-to-noise ratio. Exact.

    var_j has the divisor N − 1; ḡ_j² has the noise var_j / N in it, so that pure noise gives about
    1/N, `stats["floor"]`. Left out are parameters whose gradient is zero, or rounding beside the
    largest, as that of an attention's key bias is, and with a warning those whose gradient does not
    vary. `stats["num_params"]` counts the others, `stats["median"]` is that over them. No weight
    decay.

    Cost: one backward pass.
    Source: Liu, Jiang, Bai, Chen & Wang 2020 (arXiv 2001.07384).
    """
    risk = checkpoint.risk
    _check_count("gsnr", risk.num_examples, 2)
    second, mean = gradient_moments(risk)
    spread, rounding = second - mean.square(), 100 * torch.finfo(risk.dtype).eps
    alive = second > rounding**2 * second.max()
    noisy = alive & (spread > rounding * second)
    if not bool(noisy.any()):
        raise InputError(
            "noise.gsnr", "the same gradient for every example", "some that differ", "add examples"
        )
    count = risk.num_examples
    ratios = (mean.square() / spread)[noisy] * (count - 1) / count
    constant = int((alive & ~noisy).sum())
    still = f"{constant} parameters with the same gradient for every example are left out"
    stats = {
        "median": ratios.median().item(),
        "floor": 1 / count,
        "num_params": int(noisy.sum()),
        "num_examples": count,
    }
    return Estimate(ratios.mean().item(), warnings=(still,) if constant else (), stats=stats)


def coherence(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """Σ_ij ⟨g_i, g_j⟩ / Σ_i |g_i|², the m-coherence: how many examples one example's step helps.

    N for equal gradients, 1 for orthogonal ones, 0 where they cancel. `stats["share"]` is the value
    over N, the coherence α of the paper. `stderr`: the draw of the examples, by the jackknife. No
    weight decay.

    Cost: two backward passes and a forward-mode one.
    Source: Chatterjee & Zielinski 2020 (arXiv 2008.01217).
    """
    found = _dispersion(checkpoint.risk, "coherence", least=2)
    count = found.all.count
    if not found.all.mean_square > 0:
        raise InputError(
            "noise.coherence", "gradients that are all 0", "one that is not", "add examples"
        )
    share, error = found.jackknife(lambda sums: sums.square_of_mean / sums.mean_square)
    return Estimate(count * share, count * error, stats={"share": share, "num_examples": count})


def stiffness(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """Mean of cos(g_i, g_j) over pairs i ≠ j: whether a step for one example helps another.

    All pairs, by the square of the directions' sum, not by pairs. Examples without a gradient have
    no direction and are left out; `stats["num_examples"]` counts the others. `stderr`: the draw of
    the examples, by the jackknife. No weight decay.

    Cost: two backward passes and a forward-mode one.
    Source: Fort, Nowak, Jastrzebski & Narayanan 2019 (arXiv 1901.09491), cosine stiffness.
    """
    _check_count("stiffness", checkpoint.risk.num_examples, 3)
    found = Dispersion.of_directions(checkpoint.risk)
    _check_count("stiffness", len(found.squares), 3)
    value, error = found.jackknife(lambda sums: sums.pairs)
    return Estimate(value, error, stats={"num_examples": found.all.count})


def _dispersion(risk: EmpiricalRisk, name: str, *, least: int) -> Dispersion:
    _check_count(name, risk.num_examples, least)
    return risk.once("dispersion of gradients", lambda: Dispersion.of(risk))


def _check_count(name: str, count: int, least: int) -> None:
    if count < least:
        raise InputError(
            f"noise.{name}",
            f"{count} examples with a gradient",
            f"at least {least}",
            "add examples",
        )
