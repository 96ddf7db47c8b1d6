"""Sharpness: how much the loss, or what it is made of, changes near the trained parameters.

L is the mean loss of the data, never with weight decay: the papers perturb the data's part of the
objective. The perturbed parameters θ + ε are all trainable ones, biases and normalization included
unless said otherwise; BatchNorm uses its running statistics, which stay as they are. Differences
of losses are taken in float64, but in the precision of the risk's outputs.

Where a maximum is searched by ascent, `stderr` is the Frank-Wolfe gap, max ⟨∇, e⟩ over the region
less ⟨∇, ε⟩ at the point found: what it could still gain to first order, a deterministic number. It
says nothing of higher maxima elsewhere, so the value is a lower bound; `restarts` above 1 add
random starts. `stats` holds radius, norm and number of examples, on which the value depends.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.ascent import (
    Objective,
    Region,
    ascend,
    highest,
    loss_and_slope,
    loss_at,
    slope_at,
)
from gentheory.checkpoint import Checkpoint
from gentheory.curvature.blocks import rescaled_block, vanishes
from gentheory.curvature.residual import residual_curvature
from gentheory.errors import InputError, check_at_least, check_positive
from gentheory.estimate import Estimate
from gentheory.examples import outputs_of
from gentheory.factors.forward import pushed
from gentheory.factors.ghost import jacobian_norms
from gentheory.factors.neurons import neuron_trace
from gentheory.linalg import hutchinson
from gentheory.parameter_sets import losses_at, outputs_at, pairs
from gentheory.risk import EmpiricalRisk

__all__ = [
    "adaptive",
    "average",
    "first_order_flatness",
    "fisher_rao",
    "keskar",
    "m_sharpness",
    "prediction_variance",
    "relative_flatness",
    "sam",
]


def sam(
    checkpoint: Checkpoint,
    *,
    rho: float = 0.05,
    ascent_steps: int = 0,
    restarts: int = 1,
    generator: Generator,
) -> Estimate:
    """max L(θ + ε) − L(θ) over |ε|₂ ≤ ρ; to first order ρ|∇L| unless `ascent_steps` are given.

    No weight decay. `stderr` is 0 for the first order, which is exact; by ascent it is the gap
    that the found point has left to first order, and `stats["values"]` has each start's end.
    Not invariant to rescaling of layers: see `adaptive`.

    Cost: a gradient; with ascent (ascent_steps + 2) · restarts of them.
    Source: Foret, Kleiner, Mobahi & Neyshabur 2021 (arXiv 2010.01412).
    """
    check_positive("sharpness.sam.rho", rho)
    risk = checkpoint.risk
    region = Region.ball(risk.theta, rho)
    return highest(risk, region, ascent_steps, restarts, generator, rho=rho, norm="l2")


def adaptive(
    checkpoint: Checkpoint,
    *,
    rho: float = 0.5,
    eta: float = 0.01,
    biases: bool = False,
    ascent_steps: int = 0,
    restarts: int = 1,
    generator: Generator,
) -> Estimate:
    """max L(θ + ε) − L(θ) over |T⁻¹ε|₂ ≤ ρ with T = |w| + η for weights; to first order ρ|T∇L|.

    Weights are the tensors with "weight" in their name, those of normalization layers too, as in
    the authors' code; T = 1 for all others, or |b| + η as well with `biases`. With η = 0 it is
    invariant to rescaling of layers that leaves the function alone, as far as only tensors with
    T = |w| are rescaled. No weight decay. `stderr` and the options of the ascent as in `sam`.

    Cost: a gradient; with ascent (ascent_steps + 2) · restarts of them.
    Source: Kwon, Kim, Park & Choi 2021 (arXiv 2102.11600), their defaults for CIFAR-10.
    """
    check_positive("sharpness.adaptive.rho", rho)
    if not eta >= 0:
        raise InputError("sharpness.adaptive.eta", str(eta), "0 or more", "give such a number")
    risk = checkpoint.risk
    scale = torch.ones_like(risk.theta)
    for name, where in risk.layout.slices.items():
        if biases or "weight" in name:
            scale[where] = risk.theta[where].abs() + eta
    region = Region(risk.theta, scale, rho, "ball")
    stats = {"rho": rho, "eta": eta, "norm": "l2 / T"}
    return highest(risk, region, ascent_steps, restarts, generator, **stats)


def average(
    checkpoint: Checkpoint, *, sigma: float = 0.01, num_pairs: int = 16, generator: Generator
) -> Estimate:
    """E L(θ + σz) − L(θ) with z standard normal; about σ² tr H / 2 where σ is small.

    In antithetic pairs ±z, so that the slope of L adds no variance. `stderr` covers the draw of
    the z. No weight decay.

    Cost: 2 num_pairs forward passes.
    Source: Chen, Hsieh & Gong 2022 (arXiv 2106.01548); antithetic pairs: this package.
    """
    check_positive("sharpness.average.sigma", sigma)
    check_at_least("sharpness.average.num_pairs", num_pairs, 2)
    risk = checkpoint.risk
    drawn = pairs(risk, sigma, num_pairs, generator)
    means = torch.cat([losses_at(risk, block.flatten(0, 1)).mean(1) for block in drawn])
    means = means.unflatten(0, (-1, 2)).mean(1)
    loss = losses_at(risk, risk.theta[None]).mean()
    return Estimate.from_samples(means - loss, sigma=sigma, loss=loss.item())


def m_sharpness(
    checkpoint: Checkpoint,
    *,
    rho: float = 0.05,
    group_size: int = 128,
    num_partitions: int = 4,
    ascent_steps: int = 0,
    generator: Generator,
) -> Estimate:
    """Mean of `sam` over disjoint random groups of m examples, each with its own perturbation.

    The expected sharpness of m examples drawn from the data without replacement: the examples are
    partitioned `num_partitions` times, a remainder of less than m is left out. `stderr` covers the
    draw of the partitions; it is 0 for m = 1, and for one group of all where m is N or more. By
    ascent each value is a lower bound, which `stderr` leaves aside. No weight decay.

    Cost: num_partitions gradients of the data, (ascent_steps + 2) times as many with ascent, and a
    copy of the data.
    Source: Foret, Kleiner, Mobahi & Neyshabur 2021 (arXiv 2010.01412), section 4.1.
    """
    check_positive("sharpness.m_sharpness.rho", rho)
    check_at_least("sharpness.m_sharpness.group_size", group_size, 1)
    check_at_least("sharpness.m_sharpness.num_partitions", num_partitions, 2)
    risk = checkpoint.risk
    size = min(group_size, risk.num_examples)
    alone = size in (1, risk.num_examples)  # every partition is the same
    inputs, targets = risk.joined()
    means: list[float] = []
    for _ in range(1 if alone else num_partitions):
        order = torch.randperm(len(inputs), generator=generator, device=generator.device)
        groups = order[: len(order) // size * size].to(inputs.device).split(size)
        parts = (risk.on(inputs[index], targets[index]) for index in groups)
        found = [
            highest(part, Region.ball(risk.theta, rho), ascent_steps, 1, generator).value
            for part in parts
        ]
        means.append(sum(found) / len(found))
    mean = Estimate.from_samples(torch.tensor(means, dtype=torch.float64))
    stats = {"rho": rho, "norm": "l2", "group_size": size, "num_examples": len(inputs)}
    return Estimate(mean.value, 0.0 if alone else mean.stderr, stats=stats)


def first_order_flatness(
    checkpoint: Checkpoint,
    *,
    rho: float = 0.05,
    ascent_steps: int = 20,
    restarts: int = 1,
    generator: Generator,
) -> Estimate:
    """R1 = ρ max |∇L(θ + ε)| over |ε|₂ ≤ ρ; `stats` has R0 = max L(θ + ε) − L(θ) and R1 / R0.

    Both by ascent, as in FAD's objective α R0 + (1 − α) R1. Near a minimum R0 is ρ² λ_max / 2 and
    R1 is ρ² λ_max: their ratio goes to 2, far from one it goes to 1. No weight decay. `stderr` is
    the gap that the found point of R1 has left to first order; `zeroth_order_gap` that of R0.

    Cost: (ascent_steps + 2) · restarts times two gradients and a Hessian-vector product.
    Source: Zhang et al. 2023, FAD (ICCV); Zhang et al. 2023, GAM (arXiv 2303.03108).
    """
    check_positive("sharpness.first_order_flatness.rho", rho)
    check_at_least("sharpness.first_order_flatness.ascent_steps", ascent_steps, 1)
    risk, loss = checkpoint.risk, loss_and_slope(checkpoint.risk)[0].item()
    region = Region.ball(risk.theta, rho)

    def climbed(objective: Objective) -> tuple[float, float]:
        found = ascend(
            objective, region, num_steps=ascent_steps, restarts=restarts, generator=generator
        )
        return found.highest

    high, steep = climbed(loss_at(risk)), climbed(slope_at(risk))
    zeroth, first = high[0] - loss, rho * steep[0]
    stats = {
        "zeroth_order": zeroth,
        "zeroth_order_gap": high[1],
        "ratio": first / zeroth if zeroth else torch.nan,
        "rho": rho,
        "gradient_norm": loss_and_slope(risk)[1].norm().item(),
    }
    return Estimate(first, rho * steep[1], stats=stats)


def keskar(
    checkpoint: Checkpoint,
    *,
    epsilon: float = 1e-3,
    ascent_steps: int = 10,
    restarts: int = 1,
    generator: Generator,
) -> Estimate:
    """100 (max L(θ + z) − L(θ)) / (1 + L(θ)) over the box |z_i| ≤ ε (|θ_i| + 1).

    The full-space form, A = I. By projected ascent from the corner along the gradient, where the
    paper runs ten steps of L-BFGS-B; `ascent_steps=0` gives the first order. No weight decay.
    `stderr` as in `sam`, on the value's scale.

    Cost: (ascent_steps + 2) · restarts gradients.
    Source: Keskar, Mudigere, Nocedal, Smelyanskiy & Tang 2017 (arXiv 1609.04836), metric 2.1.
    """
    check_positive("sharpness.keskar.epsilon", epsilon)
    risk = checkpoint.risk
    region = Region(risk.theta, risk.theta.abs() + 1, epsilon, "box")
    found = highest(risk, region, ascent_steps, restarts, generator, norm="box")
    loss = found.stats["loss"]
    if not 1 + loss > 0:
        raise InputError(
            "sharpness.keskar", f"a loss of {loss:g}", "more than -1", "use sharpness.sam"
        )
    scale = 100 / (1 + loss)
    stats = {**found.stats, "epsilon": epsilon, "rise": found.value}
    return Estimate(scale * found.value, scale * found.stderr, stats=stats)


def fisher_rao(
    checkpoint: Checkpoint,
    *,
    labels: Literal["data", "model"] = "data",
    generator: Generator,
) -> Estimate:
    """θᵀFθ = mean ⟨∇loss_i, θ⟩², the squared Fisher-Rao norm, for any net. Exact.

    F has the data's own labels, as in the paper's definition, or with "model" their expectation
    under the model, the Fisher information, which a loss without a likelihood refuses. No weight
    decay. `stats["degree"]` is the square root of its ratio to mean ⟨∂loss_i/∂f_i, f_i⟩² (the
    Fisher in the outputs with "model"): for a net homogeneous in its parameters its degree, which
    for a ReLU net without biases is the number of layers.

    Cost: one forward-mode pass.
    Source: Liang, Poggio, Rakhlin & Stokes 2019 (arXiv 1711.01530).
    """
    if labels not in ("data", "model"):
        raise InputError("labels", repr(labels), "'data' or 'model'", "choose one")
    risk = checkpoint.risk
    sums = torch.zeros(2, dtype=torch.float64, device=risk.device)
    for outputs, rows, (_, targets) in pushed(risk, risk.theta):
        pair = torch.stack([rows, outputs.double()])
        if labels == "data":
            residuals = risk.loss.gradient(outputs, targets).double()
            sums += torch.einsum("kbc,bc->kb", pair, residuals).square().sum(1)
        else:
            middle = risk.loss.fisher(outputs).double()
            sums += torch.einsum("kbc,bcd,kbd->k", pair, middle, pair)
    value, outer = (sums / risk.num_examples).tolist()
    degree = (value / outer) ** 0.5 if outer else torch.nan
    stats = {"norm": value**0.5, "outputs": outer, "degree": degree, "labels": labels}
    return Estimate(value, stats=stats)


def relative_flatness(
    checkpoint: Checkpoint,
    *,
    layer: str | None = None,
    num_probes: int = 16,
    generator: Generator,
) -> Estimate:
    """Σ_ss' ⟨w_s, w_s'⟩ tr H_ss' over pairs of neurons of one layer, w_s the rows of its weight.

    H is the Hessian of L in that weight, weight decay left out; biases have no part. `layer` names
    the weight, the last one with two axes or more unless given. The GGN's part is exact by ghost
    norms; the rest of the Hessian vanishes where the outputs are (piecewise) linear in the layer,
    as they are in the last, and is else estimated by Hutchinson's probes. `stderr` covers the draw
    of the probes, and is 0 without the rest. Invariant to rescaling of layers.

    Cost: one backward pass per output; num_probes Hessian products where the rest does not vanish.
    Source: Petzka, Kamp, Adilova, Sminchisescu & Boley 2021 (arXiv 2001.00939).
    """
    check_at_least("sharpness.relative_flatness.num_probes", num_probes, 2)
    risk = checkpoint.risk
    name = _weight(risk, layer)
    exact, rest = neuron_trace(risk, name), residual_curvature(risk)
    where = risk.layout.slices[name]
    if vanishes(rest, where, generator):
        return Estimate(exact, stats={"layer": name, "ggn_part": exact})
    weight = risk.layout.unflatten(risk.theta)[name].flatten(1)
    rescaled = rescaled_block(rest, where, weight)
    samples = hutchinson(rescaled, num_probes=num_probes, generator=generator)
    return Estimate.from_samples(exact + samples, layer=name, ggn_part=exact)


def prediction_variance(
    checkpoint: Checkpoint,
    *,
    relative_sigma: float = 1e-3,
    num_draws: int = 8,
    generator: Generator,
) -> Estimate:
    """σ² · mean |∂f_i/∂θ|² = E|f(θ + δ) − f(θ)|² to first order, δ ~ N(0, σ²I). Exact.

    The prediction variance, which needs no labels; σ is `relative_sigma` times the root mean
    square of θ. On held-out examples it is the test value. `stats["finite"]` is the same from
    `num_draws` perturbations ±δ, with its standard error, and `ratio` what it is of the value: far
    from 1 the first order does not hold. `stats["trace"]` is mean |∂f_i/∂θ|² itself.

    Cost: one backward pass per output, and 2 num_draws forward passes.
    Source: TPV (arXiv 2512.11089).
    """
    check_positive("sharpness.prediction_variance.relative_sigma", relative_sigma)
    check_at_least("sharpness.prediction_variance.num_draws", num_draws, 2)
    risk = checkpoint.risk
    sigma = relative_sigma * risk.theta.double().square().mean().sqrt().item()
    trace = jacobian_norms(risk).mean().item()
    finite = Estimate.from_samples(_moved(risk, sigma, num_draws, generator))
    value = sigma**2 * trace
    stats = {
        "sigma": sigma,
        "trace": trace,
        "finite": finite.value,
        "finite_stderr": finite.stderr,
        "ratio": finite.value / value if value else torch.nan,
    }
    return Estimate(value, stats=stats)


def _weight(risk: EmpiricalRisk, layer: str | None) -> str:
    """The name of the weight meant."""
    layout = risk.layout
    known = [n for n, shape in zip(layout.names, layout.shapes, strict=True) if len(shape) > 1]
    if not known or layer not in (None, *known):
        raise InputError(
            "sharpness.relative_flatness.layer",
            "no weight with two axes" if not known else repr(layer),
            f"one of {', '.join(known)}" if known else "a layer with a matrix of weights",
            "choose one" if known else "use sharpness.fisher_rao",
        )
    return known[-1] if layer is None else layer


def _moved(
    risk: EmpiricalRisk, sigma: float, num_draws: int, generator: Generator
) -> Float[Tensor, " K"]:
    """Mean |f(θ + δ) − f(θ)|² of each draw, over ±δ."""
    unmoved = outputs_of(risk)
    sums: list[Tensor] = []
    for block in pairs(risk, sigma, num_draws, generator):
        total = torch.zeros(2 * len(block), dtype=torch.float64, device=risk.device)
        start = 0
        for chosen, outputs, _ in outputs_at(risk, block.flatten(0, 1)):
            own = unmoved[start : start + outputs.shape[1]]
            start = (start + len(own)) % len(unmoved)  # the next vectors see all examples again
            total[chosen] += (outputs.double() - own).square().sum((1, 2))
        sums.append(total.unflatten(0, (-1, 2)).mean(1))
    return torch.cat(sums) / risk.num_examples
