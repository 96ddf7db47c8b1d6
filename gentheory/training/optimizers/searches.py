"""Sharpness-aware minimization: gradients taken elsewhere, for any rule to step along.

Every search moves within a ball around the parameters, on the batch of the step (so that it sees
m-sharpness with m the batch size), and gives the running statistics and the outputs found where
it starts: a step moves the statistics once. Norms are of one model's whole vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gentheory.training.optimizers.rules import Settings

Seen: TypeAlias = tuple[Tensor, dict[str, Tensor]]
Look: TypeAlias = tuple[Tensor, Seen]
"""Gradients [M, P], with the outputs [M, B, C] and the new running statistics."""
At: TypeAlias = Callable[[Tensor], Look]
"""Parameters [M, P] of the stack -> what is found there on the batch."""


@runtime_checkable
class Search(Settings, Protocol):
    """Where a step's gradient comes from."""

    def __call__(self, theta: Float[Tensor, "M P"], at: At) -> Look:
        """The gradient to step along, with what is seen at theta itself."""
        ...


@dataclass(frozen=True)
class SAM:
    """∇L(θ + ρ g / |g|) with g = ∇L(θ)  (Foret et al. 2021); two gradients a step.

    Weight decay is the rule's and has no part in the search. Where g = 0 there is no search.
    """

    rho: Float[Tensor, "M 1"]

    def __call__(self, theta: Float[Tensor, "M P"], at: At) -> Look:
        """The gradient at the end of the ascent."""
        gradient, seen = at(theta)
        return at(_towards(theta, gradient, self.rho))[0], seen


@dataclass(frozen=True)
class ASAM:
    """∇L(θ + ρ T² g / |T g|) with g = ∇L(θ)  (Kwon et al. 2021); two gradients a step.

    T = |θ| + eta for the tensors with "weight" in their names, 1 for the others. With eta = 0 the
    search commutes with a change of scale between layers, as far as these hold no other tensors.
    """

    rho: Float[Tensor, "M 1"]
    eta: Float[Tensor, "M 1"]
    is_weight: Bool[Tensor, "1 P"]

    def __call__(self, theta: Float[Tensor, "M P"], at: At) -> Look:
        """The gradient at the end of the ascent."""
        gradient, seen = at(theta)
        scale = torch.where(self.is_weight, theta.abs() + self.eta, 1)
        stretched = gradient.mul_(scale)
        factor = _over_length(self.rho, stretched)
        return at(theta.addcmul(stretched.mul_(scale), factor))[0], seen


@dataclass(frozen=True)
class FAD:
    """Flatness of zeroth and first order together (Zhang et al. 2023); four gradients a step.

    L + β (α R⁰ + (1 − α) R¹) with R⁰ = max L − L(θ) and R¹ = ρ max |∇L| over the ball of radius
    ρ around θ. With n(g) = g / |g|:  g₀ = ∇L(θ),  g₁ = ∇L(θ + ρ n(g₀)),  h₀ = g₁ − g₀,
    g₂ = ∇L(θ + ρ n(h₀)),  g₃ = ∇L(θ + ρ n(g₂)),  h₁ = g₃ − g₂;  the gradient to step along is
    g₀ + β (α h₀ + (1 − α) h₁).
    """

    rho: Float[Tensor, "M 1"]
    alpha: Float[Tensor, "M 1"]
    beta: Float[Tensor, "M 1"]

    def __call__(self, theta: Float[Tensor, "M P"], at: At) -> Look:
        """g₀ + β (α h₀ + (1 − α) h₁)."""
        start, seen = at(theta)
        rise = at(_towards(theta, start, self.rho))[0].sub_(start)
        there = at(_towards(theta, rise, self.rho))[0]
        second = at(_towards(theta, there, self.rho))[0].sub_(there)
        mixed = second.lerp_(rise, self.alpha)
        return start.addcmul_(mixed, self.beta), seen


def _towards(
    theta: Float[Tensor, "M P"], direction: Float[Tensor, "M P"], radius: Float[Tensor, "M 1"]
) -> Float[Tensor, "M P"]:
    return theta.addcmul(direction, _over_length(radius, direction))


def _over_length(
    radius: Float[Tensor, "M 1"], vectors: Float[Tensor, "M P"]
) -> Float[Tensor, "M 1"]:
    """Radius / |vector|; 0 where there is no length to divide by."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return torch.where(lengths > 0, radius / lengths, 0)
