"""The surface of the loss around the parameters, and between them and their start.

L is the mean loss of the data, never with weight decay. The tables that figures are drawn from are
those of `gentheory.landscape.slices`, along the directions of `gentheory.landscape.directions`.
"""

from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory import linalg
from gentheory.checkpoint import Checkpoint
from gentheory.curvature import hessian
from gentheory.errors import InputError, check_at_least, check_positive
from gentheory.estimate import Estimate
from gentheory.landscape import directions, slices
from gentheory.landscape.batch_norm import Policy
from gentheory.parameter_sets import losses_at
from gentheory.risk import EmpiricalRisk

__all__ = ["barrier", "convergence", "convergence_in_ball", "line", "non_convexity", "plane"]

Normalization = Literal["filter", "layer", "none"]
"""As long as the weights, filter by filter or tensor by tensor; "none": Euclidean length 1."""


def line(
    checkpoint: Checkpoint,
    *,
    normalization: Normalization = "filter",
    num_directions: int = 8,
    distance: float = 1.0,
    num_points: int = 5,
    batch_norm: Policy = "keep",
    generator: Generator,
) -> Estimate:
    """Mean over random d of ½ L(θ + ρd) + ½ L(θ − ρd) − L(θ), at the `distance` ρ.

    With filter normalization a row of d is as long as that of the weights, so that rescaling of
    layers changes nothing; biases and other parameters of one axis do not move. `stderr` covers
    the draw of the directions, not that of the data: `stats["loss_stderr"]` is that of L(θ).
    `stats` has the mean loss at `num_points` distances from −ρ to ρ, and each direction's `rises`.

    Cost: num_directions · num_points forward passes.
    Source: Li, Xu, Taylor, Studer & Goldstein 2018 (arXiv 1712.09913).
    """
    check_at_least("landscape.line.num_directions", num_directions, 2)
    places = _symmetric("line", distance, num_points)
    risk = checkpoint.risk
    ways = _random(risk, normalization, num_directions, generator)
    table = slices.line(risk, ways, distances=places, batch_norm=batch_norm)
    losses = _column(table).unflatten(0, (num_directions, num_points))
    middle = num_points // 2
    rises = (losses[:, 0] + losses[:, -1]) / 2 - losses[:, middle]
    return Estimate.from_samples(
        rises,
        rises=rises.tolist(),
        loss=losses[0, middle].item(),
        loss_stderr=_column(table, "stderr")[middle].item(),
        distances=places,
        losses=losses.mean(0).tolist(),
        distance=distance,
        normalization=normalization,
        batch_norm=batch_norm,
    )


def plane(
    checkpoint: Checkpoint,
    *,
    normalization: Normalization = "filter",
    num_planes: int = 4,
    distance: float = 1.0,
    num_points: int = 9,
    batch_norm: Policy = "keep",
    generator: Generator,
) -> Estimate:
    """Mean of L(θ + a d + b e) − L(θ) over the square |a|, |b| ≤ ρ, ρ the `distance`.

    d and e are random, normalized as in `landscape.line`; the mean is that of the trapezoidal rule
    on `num_points` × `num_points` points, then over `num_planes` pairs. `stderr` covers the draw
    of the pairs, not that of the data. `stats` has each plane's `rises`, the `cosines` of the
    pairs, and the `losses` [a][b] of the first plane at the coordinates `places`.

    Cost: num_planes · num_points² forward passes.
    Source: Li, Xu, Taylor, Studer & Goldstein 2018 (arXiv 1712.09913).
    """
    check_at_least("landscape.plane.num_planes", num_planes, 2)
    places = _symmetric("plane", distance, num_points)
    risk = checkpoint.risk
    ways = _random(risk, normalization, 2 * num_planes, generator)
    side = torch.tensor(places, dtype=torch.float64)
    grids = torch.block_diag(*[torch.cartesian_prod(side, side)] * num_planes)
    table = slices.points(risk, ways, grids, batch_norm=batch_norm)
    losses = _column(table).unflatten(0, (num_planes, num_points, num_points))
    middle = num_points // 2
    # In units of the square's side, over which this is the mean.
    means = torch.trapezoid(torch.trapezoid(losses)) / (num_points - 1) ** 2
    rises = means - losses[:, middle, middle]
    return Estimate.from_samples(
        rises,
        rises=rises.tolist(),
        cosines=torch.cosine_similarity(ways[::2], ways[1::2]).tolist(),
        places=places,
        losses=losses[0].tolist(),
        distance=distance,
        normalization=normalization,
        batch_norm=batch_norm,
    )


def barrier(
    checkpoint: Checkpoint,
    *,
    num_points: int = 25,
    batch_norm: Policy = "keep",
    generator: Generator,
) -> Estimate:
    """max over t of L(θ_t) − (1 − t) L(θ) − t L(θ₀), θ_t = (1 − t) θ + t θ₀.

    θ₀ are the checkpoint's initial parameters, or whatever parameters it holds in their place,
    such as those of another run: two minima with a barrier of about 0 are linearly connected. On
    `num_points` equally spaced t, both ends among them, so that it is 0 at least. `stderr` covers
    the draw of the examples, whose differences are taken one by one, not the choice of t. `stats`
    has t at the maximum and the losses along the way. Refused without initial parameters.

    Cost: num_points forward passes.
    Source: Frankle, Dziugaite, Roy & Carbin 2020 (arXiv 1912.05671); Entezari et al. 2022.
    """
    other = checkpoint.initial_for("landscape.barrier")
    found = slices.barrier(checkpoint.risk, other, num_points=num_points, batch_norm=batch_norm)
    stats = {
        "position": found.position,
        "distances": found.table["distance"].tolist(),
        "losses": found.table["loss"].tolist(),
        "batch_norm": batch_norm,
    }
    return Estimate(found.height, found.stderr, stats=stats)


def non_convexity(
    checkpoint: Checkpoint,
    *,
    rtol: float = 1e-4,
    max_steps: int = 300,
    generator: Generator,
) -> Estimate:
    """|λ_min| / λ_max of the Hessian at θ, by Lanczos: 0 where the loss is convex there.

    A positive λ_min counts as 0. Weight decay is left out. `stderr` is what the residuals allow, a
    deterministic bound. Refused where no curvature is positive.

    Cost: a Lanczos run of tens of products.
    Source: Li, Xu, Taylor, Studer & Goldstein 2018 (arXiv 1712.09913).
    """
    check_at_least("landscape.non_convexity.max_steps", max_steps, 2)
    risk = checkpoint.risk
    operator = hessian(risk.at(risk.theta, weight_decay=0.0))
    low, high = linalg.extremes(operator, rtol=rtol, max_steps=max_steps, generator=generator)
    smallest, largest = low.values.item(), high.values.item()
    if not largest > 0:
        raise InputError(
            "landscape.non_convexity",
            f"a largest eigenvalue of {largest:g}",
            "a positive one",
            "measure near a minimum",
        )
    value = max(-smallest, 0.0) / largest
    error = (low.residuals.item() + value * high.residuals.item()) / largest
    met = low.converged and high.converged
    warnings = () if met else (f"residual above {rtol:g} · |λ|max after {max_steps} products",)
    stats = {"smallest": smallest, "largest": largest}
    return Estimate(value, error, warnings=warnings, stats=stats)


def convergence(checkpoint: Checkpoint, *, num_orders: int = 100, generator: Generator) -> Estimate:
    """Slope of log |L_{k+1} − L_k| against log k, L_k the mean loss of the first k examples at θ.

    The means over `num_orders` random orders of the examples, fitted by least squares with weights
    1/k, which count each scale of k alike. By |L_{k+1} − L_k| = |l_{k+1} − L_k| / (k + 1) it is
    about −1 at any one θ, the law of a running mean: a check, and no property of the landscape,
    of which `landscape.convergence_in_ball` asks. `stderr` covers the draw of the orders, by the
    jackknife. `stats` has the `level`: (k + 1) |L_{k+1} − L_k| at the last k, over all orders.

    Cost: a forward pass.
    Source: Kiselev & Grabovoy 2024, Unraveling the Hessian (arXiv 2409.11995).
    """
    check_at_least("landscape.convergence.num_orders", num_orders, 2)
    risk = checkpoint.risk
    # In the order of their size, so that the draw does not depend on how the examples come.
    losses = risk.example_losses().double().sort().values
    _check_spread(losses)
    moves = torch.stack([_moves(losses, generator) for _ in range(num_orders)])
    total = moves.sum(0)
    slopes = _slope(torch.stack([total - own for own in moves]))
    slope = _slope(total[None]).item()
    error = ((num_orders - 1) * slopes.var(correction=0)).sqrt().item()
    stats = {
        "level": _level(losses[None]).item(),
        "num_orders": num_orders,
        "num_examples": len(losses),
    }
    warning = "at one parameter vector the slope is about -1 whatever the landscape (running mean)"
    return Estimate(slope, error, warnings=(warning,), stats=stats)


def convergence_in_ball(
    checkpoint: Checkpoint,
    *,
    relative_radius: float = 0.2,
    num_radii: int = 4,
    num_draws: int = 16,
    rtol: float = 1e-3,
    generator: Generator,
) -> Estimate:
    """Rise of the level of |L_{k+1} − L_k| in a ball, per R²: slope of A(R) − A(0) against R².

    A(R) is the mean over parameters drawn uniformly in the ball of radius R around θ of the mean
    over examples of |l_i − L_{−i}|, L_{−i} the mean of the others: (k + 1) |L_{k+1} − L_k| at
    k = N − 1, over all orders. R are `num_radii` equal steps up to `relative_radius` · |θ|; each
    draw and its opposite are used at every R, and the slope is the least-squares one through 0.
    `stderr` covers the draws. `stats` has the `exponent` of A(R) − A(0) in R, 2 by the paper's
    bound, where all of them are rises, and λ_max of the Hessian with `per_curvature`, the value
    over it. Refused for |θ| = 0.

    Cost: 2 num_radii · num_draws forward passes, and a Lanczos run.
    Source: Kiselev & Grabovoy 2024, Unraveling the Hessian (arXiv 2409.11995), whose bound on it is
    2 (M + B R²) with B a bound on |H_i|₂.
    """
    check_at_least("landscape.convergence_in_ball.num_radii", num_radii, 2)
    check_at_least("landscape.convergence_in_ball.num_draws", num_draws, 2)
    check_positive("landscape.convergence_in_ball.relative_radius", relative_radius)
    risk = checkpoint.risk
    norm = risk.theta.double().norm().item()
    _check_spread(risk.example_losses().double())
    if norm == 0:
        raise InputError(
            "landscape.convergence_in_ball", "parameters of zeros", "others", "train the net"
        )
    radii = torch.arange(1, num_radii + 1, dtype=torch.float64) * relative_radius * norm / num_radii
    rises = torch.stack([_rises(risk, radii, generator) for _ in range(num_draws)])
    squares = radii.square()
    found = Estimate.from_samples((rises @ squares) / squares.square().sum())
    mean = rises.mean(0)
    operator = hessian(risk.at(risk.theta, weight_decay=0.0))
    top = linalg.largest(operator, 1, rtol=rtol, generator=generator).values.item()
    stats = {
        "radii": radii.tolist(),
        "rises": mean.tolist(),
        "level": _level(risk.example_losses().double()[None]).item(),
        "largest_eigenvalue": top,
    }
    if top > 0:
        stats["per_curvature"] = found.value / top
    if bool((mean > 0).all()):
        stats["exponent"] = _exponent(radii, mean)
    return Estimate(found.value, found.stderr, stats=stats)


def _random(
    risk: EmpiricalRisk, normalization: Normalization, count: int, generator: Generator
) -> Float[Tensor, "K P"]:
    drawn = directions.random(risk, count, generator=generator)
    if normalization == "filter":
        return directions.filter_normalized(risk, drawn)
    if normalization == "layer":
        return directions.layer_normalized(risk, drawn)
    if normalization == "none":
        return directions.unit(drawn)
    expected = "'filter', 'layer' or 'none'"
    raise InputError("landscape.normalization", repr(normalization), expected, "choose one")


def _column(table: pd.DataFrame, name: str = "loss") -> Float[Tensor, " G"]:
    return torch.tensor(table[name].to_numpy())


def _moves(losses: Float[Tensor, " N"], generator: Generator) -> Float[Tensor, " T"]:
    """|L_{k+1} − L_k| for k from 1 to N − 1 in a random order; L_k sums in float64."""
    order = torch.randperm(len(losses), generator=generator, device=generator.device)
    shuffled = losses[order.to(losses.device)]
    k = torch.arange(1, len(losses), dtype=losses.dtype, device=losses.device)
    before = shuffled.cumsum(0)[:-1] / k
    return (shuffled[1:] - before).abs() / (k + 1)


def _slope(curves: Float[Tensor, "K T"]) -> Float[Tensor, " K"]:
    """Of the logarithms against that of 1, 2, …, each k with the weight 1/k."""
    k = torch.arange(1, curves.shape[1] + 1, dtype=curves.dtype, device=curves.device)
    weights = (1 / k) / (1 / k).sum()
    x = k.log() - weights @ k.log()
    return curves.log() @ (weights * x) / (weights @ x.square())


def _level(losses: Float[Tensor, "K N"]) -> Float[Tensor, " K"]:
    """Mean over i of |l_i − L_{−i}|, which is N / (N − 1) times the mean absolute deviation."""
    count = losses.shape[1]
    deviations = (losses - losses.mean(1, keepdim=True)).abs()
    return deviations.mean(1) * count / (count - 1)


def _rises(
    risk: EmpiricalRisk, radii: Float[Tensor, " G"], generator: Generator
) -> Float[Tensor, " G"]:
    """A at one draw of the unit ball, stretched to each radius, less A at θ; over ± the draw."""
    way = directions.unit(directions.random(risk, generator=generator)).double()
    uniform = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64)
    shrunk = uniform.item() ** (1 / risk.num_params)
    steps = shrunk * torch.cat([radii, -radii, torch.zeros(1)]).to(way)
    thetas = (risk.theta.double() + steps[:, None] * way).to(risk.theta)
    levels = _level(losses_at(risk, thetas)).cpu()
    return (levels[: len(radii)] + levels[len(radii) : -1]) / 2 - levels[-1]


def _exponent(radii: Float[Tensor, " G"], rises: Float[Tensor, " G"]) -> float:
    """Slope between logarithms."""
    x = radii.log() - radii.log().mean()
    return float((rises.log() @ x) / x.square().sum())


def _check_spread(losses: Float[Tensor, " N"]) -> None:
    """Raise `InputError` unless there are four examples with losses that differ."""
    spread = losses.max() - losses.min()
    if len(losses) < 4 or not spread > 1e-6 * losses.abs().max():
        few = len(losses) < 4
        raise InputError(
            "landscape.convergence",
            f"{len(losses)} examples" if few else "the same loss for all examples",
            "four examples or more with losses that differ",
            "hand in more data, or parameters that tell examples apart",
        )


def _symmetric(place: str, distance: float, num_points: int) -> list[float]:
    """Coordinates from −distance to distance, 0 among them."""
    check_positive(f"landscape.{place}.distance", distance)
    if num_points < 3 or num_points % 2 == 0:
        raise InputError(
            f"landscape.{place}.num_points", str(num_points), "an odd number from 3 on", "change it"
        )
    half = num_points // 2
    return [distance * (i - half) / half for i in range(num_points)]
