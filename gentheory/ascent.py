"""How high the loss, or its gradient's norm, gets near the parameters: ascent within a region.

Projected gradient ascent on a whole stack of starts, each with a step that doubles while it climbs
and shrinks where it would fall. With a long step the projection is the point of the region
farthest along the gradient: the step of Frank & Wolfe, which is monotone for a convex function.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.errors import InputError, check_at_least
from gentheory.estimate import Estimate
from gentheory.parameter_sets import gradients_at
from gentheory.risk import EmpiricalRisk

Objective = Callable[[Float[Tensor, "K P"]], tuple[Float[Tensor, " K"], Float[Tensor, "K P"]]]
"""Parameter vectors -> values and gradients, in float64."""


@dataclass(frozen=True)
class Region:
    """θ + scale ∘ u with |u| ≤ radius in the Euclidean norm, a ball, or the largest, a box."""

    centre: Float[Tensor, " P"]
    scale: Float[Tensor, " P"]
    radius: float
    shape: Literal["ball", "box"]

    @classmethod
    def ball(cls, centre: Float[Tensor, " P"], radius: float) -> "Region":
        """|ε|₂ ≤ radius."""
        return cls(centre, torch.ones_like(centre), radius, "ball")

    @property
    def diameter(self) -> float:
        """Euclidean distance between its farthest points, in u."""
        corners = self.centre.numel() if self.shape == "box" else 1
        return 2 * self.radius * corners**0.5

    def norms(self, u: Float[Tensor, "K P"]) -> Float[Tensor, " K"]:
        """In the norm whose ball it is."""
        order = torch.inf if self.shape == "box" else 2
        return torch.linalg.vector_norm(u, ord=order, dim=1)

    def points(self, u: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        """Parameter vectors, in their own dtype."""
        return (self.centre.double() + self.scale.double() * u).to(self.centre)

    def project(self, u: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        """The nearest u of the region."""
        if self.shape == "box":
            return u.clamp(-self.radius, self.radius)
        norms = u.norm(dim=1, keepdim=True)
        return torch.where(norms > self.radius, self.radius / norms, 1.0) * u

    def farthest(self, slope: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        """The u with the largest ⟨slope, u⟩; 0 for a slope of 0."""
        if self.shape == "box":
            return self.radius * slope.sign()
        norms = slope.norm(dim=1, keepdim=True)
        return self.radius * slope / torch.where(norms > 0, norms, 1.0)

    def rise(self, slope: Float[Tensor, "K P"]) -> Float[Tensor, " K"]:
        """The largest ⟨slope, u⟩: how much is gained to first order."""
        order = 1 if self.shape == "box" else 2
        return self.radius * torch.linalg.vector_norm(slope, ord=order, dim=1)


@dataclass(frozen=True)
class Ascent:
    """Where each start led to; float64."""

    values: Float[Tensor, " K"]
    gaps: Float[Tensor, " K"]  # what each end point could still gain to first order
    distances: Float[Tensor, " K"]  # of the end points from the centre, in radii

    @property
    def best(self) -> int:
        """The start that got highest."""
        return int(self.values.argmax())

    @property
    def highest(self) -> tuple[float, float]:
        """Its value, and what it could still gain to first order."""
        return self.values[self.best].item(), self.gaps[self.best].item()


def ascend(
    objective: Objective,
    region: Region,
    *,
    num_steps: int,
    restarts: int,
    generator: Generator,
) -> Ascent:
    """Values of the objective after `num_steps` steps from each of `restarts` starts.

    The first start is the point farthest along the gradient at the centre; the others are random
    points of the region's surface, and so is the first where that gradient is zero. No value falls
    below that of its start, nor below the centre's. Takes num_steps + 1 evaluations of all starts
    and 5 restarts vectors of size P. Raises `InputError` for no step or no start.
    """
    if num_steps < 1:
        raise InputError("ascent_steps", str(num_steps), "1 or more to ascend", "give more")
    check_at_least("restarts", restarts, 1)
    zero = torch.zeros_like(region.centre, dtype=torch.float64)[None]
    centre, outward = _evaluated(objective, region, zero)
    u = _starts(region, outward, restarts, generator)
    values, slopes = _evaluated(objective, region, u)
    lengths = slopes.norm(dim=1, keepdim=True)
    steps = region.diameter / torch.where(lengths > 0, lengths, 1.0)
    for _ in range(num_steps):
        trial = region.project(u + steps * slopes)
        reached, there = _evaluated(objective, region, trial)
        higher = reached > values
        steps = torch.where(higher[:, None], 2 * steps, steps / 4)
        u = torch.where(higher[:, None], trial, u)
        slopes = torch.where(higher[:, None], there, slopes)
        values = torch.where(higher, reached, values)
    fallen = (values < centre)[:, None]  # all around is lower, or the steps were too few
    u, slopes = torch.where(fallen, zero, u), torch.where(fallen, outward, slopes)
    values = torch.maximum(values, centre)
    gaps = region.rise(slopes) - (slopes * u).sum(1)
    return Ascent(values, gaps.clamp(min=0), region.norms(u) / region.radius)


def highest(
    risk: EmpiricalRisk,
    region: Region,
    ascent_steps: int,
    restarts: int,
    generator: Generator,
    **stats: Any,
) -> Estimate:
    """How far the mean loss rises within the region, weight decay left out.

    To first order where there are no steps, exactly; else by ascent, with the gap that the point
    found has left as `stderr`. Raises `InputError` for negative numbers of steps, for less than
    one start, and for starts without a step.
    """
    loss, slope = loss_and_slope(risk)
    first = region.rise((slope * region.scale.double())[None]).item()
    stats |= {
        "first_order": first,
        "loss": loss.item(),
        "gradient_norm": slope.norm().item(),
        "num_examples": risk.num_examples,
        "ascent_steps": ascent_steps,
    }
    if ascent_steps == 0 and restarts == 1:
        return Estimate(first, stats=stats)
    found = ascend(
        loss_at(risk), region, num_steps=ascent_steps, restarts=restarts, generator=generator
    )
    value, gap = found.highest
    stats |= {
        "values": (found.values - loss).tolist(),
        "distance": found.distances[found.best].item(),
    }
    return Estimate(value - loss.item(), gap, stats=stats)


def loss_and_slope(risk: EmpiricalRisk) -> tuple[Float[Tensor, ""], Float[Tensor, " P"]]:
    """Mean loss and its gradient in float64, without weight decay; computed once a risk."""
    loss, slope = risk.once("loss and slope", lambda: gradients_at(risk, risk.theta[None]))
    return loss[0], slope[0]


def loss_at(risk: EmpiricalRisk) -> Objective:
    """The data's mean loss."""
    return lambda thetas: gradients_at(risk, thetas)


def slope_at(risk: EmpiricalRisk) -> Objective:
    """The norm of the mean loss's gradient g, whose own gradient is H g / |g|; in two passes."""

    def evaluate(thetas: Float[Tensor, "K P"]) -> tuple[Tensor, Tensor]:
        gradients = gradients_at(risk, thetas)[1]
        norms = gradients.norm(dim=1, keepdim=True)
        directions = (gradients / torch.where(norms > 0, norms, 1.0)).to(thetas)
        rows = [_bent(risk, theta, v) for theta, v in zip(thetas, directions, strict=True)]
        return norms[:, 0], torch.stack(rows)

    return evaluate


def _bent(
    risk: EmpiricalRisk, theta: Float[Tensor, " P"], v: Float[Tensor, " P"]
) -> Float[Tensor, " P"]:
    """The Hessian of the mean loss at theta, times v."""
    total = torch.zeros_like(theta, dtype=torch.float64)
    for batch in risk.batches():
        gradient = torch.func.grad(lambda at, b=batch: risk.loss_sum(at, b))
        total += torch.func.jvp(gradient, (theta,), (v,))[1]
    return total / risk.num_examples


def _starts(
    region: Region, outward: Float[Tensor, "1 P"], restarts: int, generator: Generator
) -> Float[Tensor, "K P"]:
    drawn = torch.randn(
        restarts,
        outward.shape[1],
        generator=generator,
        device=generator.device,
        dtype=torch.float64,
    )
    starts = region.farthest(drawn.to(outward))
    return torch.cat([region.farthest(outward), starts[1:]]) if bool(outward.any()) else starts


def _evaluated(
    objective: Objective, region: Region, u: Float[Tensor, "K P"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K P"]]:
    """Values, and gradients in u."""
    values, gradients = objective(region.points(u))
    return values, gradients * region.scale.double()
