"""The gradients' second moment (uncentred) or covariance (centred), with the data's own targets."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.curvature.sandwich import sandwich, weighed
from gentheory.data.batches import Batch
from gentheory.linalg import LinearOperator
from gentheory.risk import EmpiricalRisk


def gradient_covariance(risk: EmpiricalRisk, *, centred: bool = False) -> LinearOperator:
    """(1/N) Σ_i g_i gᵢᵀ, less ḡ ḡᵀ where `centred`; g_i includes the weight decay's gradient.

    The two agree at a stationary point only. This is what is called the empirical Fisher, which
    is not the Fisher: it vanishes where the training data are interpolated.
    """

    def middle(outputs: Float[Tensor, "B C"], batch: Batch) -> Float[Tensor, "B C C"]:
        r = risk.loss.gradient(outputs, batch[1])
        return r[:, :, None] * r[:, None, :]

    plain = sandwich(risk, weighed(risk, middle), 0.0)
    mean = risk.gradient()
    left, right = decay_terms(risk, mean, centred=centred)

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        return plain(v) + (v @ right.T) @ left

    return LinearOperator(block, risk.num_params, risk.dtype, risk.device)


def decay_terms(
    risk: EmpiricalRisk, mean: Float[Tensor, " P"], *, centred: bool
) -> tuple[Float[Tensor, "K P"], Float[Tensor, "K P"]]:
    """Rows (left, right) with leftᵀ right = what weight decay and centring add to the data's part.

    With d = weight_decay · θ and g_i = h_i + d, Σ g_i gᵢᵀ / N = Σ h_i hᵢᵀ / N + ḡdᵀ + dḡᵀ − ddᵀ.
    """
    d = risk.weight_decay * risk.theta.to(mean)
    left, right = [mean, d, -d], [d, mean, d]
    if centred:
        left, right = [*left, -mean], [*right, mean]
    return torch.stack(left), torch.stack(right)


def gradient_draws(
    risk: EmpiricalRisk, count: int, *, centred: bool = False, generator: Generator
) -> Float[Tensor, "K P"]:
    """K sums Σ_i ±(g_i − ḡ if centred) / √N: their second moment is the covariance.

    One backward pass for the K of them; the signs do not depend on the batches.
    """
    signs = torch.randint(2, (count, risk.num_examples), generator=generator) * 2 - 1
    total = torch.zeros(count, risk.num_params, dtype=torch.float64, device=risk.device)
    start = 0
    for inputs, targets in risk.batches():
        chosen = signs[:, start : start + len(inputs)].to(risk.device)
        start += len(inputs)
        total += _pulled(risk, (inputs, targets), chosen)
    sums = signs.sum(1, keepdim=True).to(total)
    total += sums * risk.weight_decay * risk.theta.double()
    if centred:
        total -= sums * risk.gradient().double()
    return (total / risk.num_examples**0.5).to(risk.dtype)


def _pulled(risk: EmpiricalRisk, batch: Batch, signs: Tensor) -> Float[Tensor, "K P"]:
    """Σ_i ± the gradients of the examples' losses."""
    with torch.no_grad():
        residuals = risk.loss.gradient(risk.outputs(risk.theta, batch[0]), batch[1])
    pull = torch.func.vjp(lambda theta: risk.outputs(theta, batch[0]), risk.theta)[1]
    weighted = (signs[:, :, None] * residuals).to(risk.dtype)
    return torch.func.vmap(lambda u: pull(u)[0])(weighted)
