"""Perturbed inputs: which examples stay right under projected gradient ascent within a ball.

What is climbed is max over k ≠ y of z_k − z_y, the margin with its sign turned: unlike that of
the cross-entropy its gradient does not vanish where the net is sure (Carlini & Wagner 2017).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from gentheory.risk import EmpiricalRisk

Norm = Literal["linf", "l2"]

_STRIDE = 2.5
"""All steps together, in radii: the boundary is reached from any start (Madry et al. 2018)."""


@dataclass(frozen=True)
class Ball:
    """Perturbations of at most this size, one row an example."""

    norm: Norm
    radius: float

    def project(self, moved: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The nearest perturbations of the ball."""
        if self.norm == "linf":
            return moved.clamp(-self.radius, self.radius)
        norms = moved.norm(dim=1, keepdim=True)
        return moved * torch.where(norms > self.radius, self.radius / norms, 1.0)

    def farthest(self, slope: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Those with the largest inner products with the slopes; 0 for a slope of 0."""
        if self.norm == "linf":
            return self.radius * slope.sign()
        norms = slope.norm(dim=1, keepdim=True)
        return self.radius * slope / torch.where(norms > 0, norms, 1.0)


def starts(count: int, inputs: int, ball: Ball, generator: Generator) -> Float[Tensor, "K D"]:
    """No perturbation, then count − 1 random ones of the ball's surface, for all examples alike."""
    drawn = torch.randn(
        count - 1, inputs, generator=generator, device=generator.device, dtype=torch.float64
    )
    return torch.cat([drawn.new_zeros(1, inputs), ball.farthest(drawn)])


def survivors(
    risk: EmpiricalRisk, ball: Ball, begin: Float[Tensor, "K D"], num_steps: int
) -> tuple[Bool[Tensor, " N"], Bool[Tensor, " N"]]:
    """Which examples are right at every point that the ascent visits, and which without it.

    All K starts of a batch of examples climb as one stack: num_steps + 1 forward and backward
    passes of K N examples.
    """
    robust: list[Tensor] = []
    clean: list[Tensor] = []
    for inputs, targets in risk.batches():
        shape = (len(begin), len(inputs))
        x, y = inputs.flatten(1).repeat(len(begin), 1), targets.repeat(len(begin))
        moved = begin.to(inputs).repeat_interleave(len(inputs), dim=0)
        right = torch.ones_like(y, dtype=torch.bool)
        for step in range(num_steps + 1):
            hit, slope = _climb(risk, (x + moved).view(-1, *inputs.shape[1:]), y)
            right &= hit
            if step == 0:
                clean.append(hit.view(shape)[0])
            moved = ball.project(moved + _STRIDE / max(1, num_steps) * ball.farthest(slope))
        robust.append(right.view(shape).all(0))
    return torch.cat(robust), torch.cat(clean)


def _climb(
    risk: EmpiricalRisk, inputs: Tensor, targets: Int[Tensor, " B"]
) -> tuple[Bool[Tensor, " B"], Float[Tensor, "B D"]]:
    """Who is right there, and the gradients of how far the runner-up is ahead of the target."""
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        outputs = risk.outputs(risk.theta, inputs)
        own = torch.nn.functional.one_hot(targets, outputs.shape[1]).bool()
        ahead = outputs.masked_fill(own, -torch.inf).amax(1) - outputs[own]
        (slope,) = torch.autograd.grad(ahead.sum(), inputs)
    return outputs.detach().argmax(1) == targets, slope.flatten(1)
