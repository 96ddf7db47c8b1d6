"""Wide nets on the sphere as their depth grows: majority vote, nearest neighbour, singular kernel.

With φ normalized to E φ(u)² = 1 for a standard normal u, its dual is κ(c) = E φ(u) φ(v) at
correlation c. A = E φ, A' = E φ' and B' = E φ'² decide what the infinitely wide and deep net
classifies by (Radhakrishnan et al. 2022, arXiv 2204.14126); A² = κ(0), A'² = κ̇(0), B' = κ̇(1).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.errors import InputError
from gentheory.infinite_width.activations import Activation

Kind = Literal["majority vote", "nearest neighbour", "singular kernel"]

_SMALL = 1e-8
"""Below this correlation κ is its leading power, to as many digits."""

_LARGEST_LOG = 1e300
"""Logarithms of correlations beyond this overflow: who is nearest is settled long before."""


@dataclass(frozen=True)
class DeepLimit:
    """What a deep net of infinite width classifies by."""

    kind: Kind
    mean_squared: float
    """A²."""
    slope_squared: float
    """A'²."""
    gain: float
    """B'."""
    exponent: float
    """a = −4 log A' / log B' of the singular kernel |x − x'|^−a; nan for the other kinds."""


def deep_limit(activation: Activation) -> DeepLimit:
    """A ≠ 0: majority vote. A = 0: nearest neighbour if A' = 0, a singular kernel otherwise.

    The activation is normalized first. With an exponent equal to the dimension of the sphere's
    data the classifier is consistent. Raises `InputError` for a linear activation, B' = 1, A = 0.
    """
    dual = _Dual.of(activation)
    (mean, slope), (_, gain) = (dual(torch.tensor(c, dtype=torch.float64)) for c in (0.0, 1.0))
    found = (float(mean), float(slope), float(gain))
    rounding = torch.finfo(torch.float64).eps
    if found[0] > rounding:
        return DeepLimit("majority vote", *found, math.nan)
    if found[1] <= rounding:
        return DeepLimit("nearest neighbour", *found, math.nan)
    if found[2] <= 1 + math.sqrt(rounding):
        raise InputError(
            f"activation {activation.name}", "a linear one", "a nonlinear one", "choose another"
        )
    return DeepLimit("singular kernel", *found, -2 * math.log(found[1]) / math.log(found[2]))


@dataclass(frozen=True)
class DeepKernel:
    """A kernel by its signs and the logarithms of its sizes, which deep nets overflow."""

    sign: Float[Tensor, "*shape"]
    log: Float[Tensor, "*shape"]

    def value(self) -> Float[Tensor, "*shape"]:
        """The numbers themselves, where they are in range."""
        return self.sign * self.log.exp()


def deep_kernel(
    cosines: Float[Tensor, "*shape"], *, depth: int, activation: Activation
) -> DeepKernel:
    """The tangent kernel Θ between unit vectors x and x' of x·x', with `depth` hidden layers.

    Θ⁰ = s⁰ = x·x',  Θˡ⁺¹ = κ(sˡ) + Θˡ κ̇(sˡ),  sˡ⁺¹ = κ(sˡ): the activation normalized, weights of
    variance 1, no biases. Logarithms throughout, so that neither the B'^L of the diagonal nor the
    doubly exponential decay where A = A' = 0 leaves the range; correlations are followed until
    their logarithms do. Raises `InputError` for a negative depth.
    """
    if depth < 0:
        raise InputError("depth", str(depth), "0 or more", "give the number of hidden layers")
    cosines = cosines.double()
    s = theta = DeepKernel(cosines.sign(), cosines.abs().log())
    dual = _Dual.of(activation)
    for step in range(depth):
        if bool(((s.log < -_LARGEST_LOG) & (s.sign != 0)).any()):
            break
        if dual.order == 1 and bool((s.log < math.log(_SMALL)).all()):
            return dual.linear(theta, s, depth - step)
        mean, slope = dual.stepped(s)
        theta = _sum(mean, DeepKernel(theta.sign * slope.sign, theta.log + slope.log))
        s = mean
    return theta


def vote(kernel: DeepKernel, targets: Float[Tensor, "N C"]) -> Float[Tensor, "n C"]:
    """Σ_j K(x, x_j) y_j / Σ_j |K(x, x_j)| for a kernel [n, N] between new and training examples.

    What kernel regression becomes with depth where the diagonal outgrows the rest: its sign, or
    its largest column, is the class of the deep net.
    """
    weights = kernel.sign * (kernel.log - kernel.log.amax(1, keepdim=True)).exp()
    return weights @ targets.double() / weights.abs().sum(1, keepdim=True)


@dataclass(frozen=True)
class _Dual:
    """κ and κ̇ of the normalized activation, in logarithms below `_SMALL`."""

    activation: Activation
    size: float
    at_edge: tuple[float, float]
    """κ and κ̇ at `_SMALL`."""
    order: int
    """Of κ's leading power."""

    @classmethod
    def of(cls, activation: Activation) -> "_Dual":
        one, edge = (torch.tensor(x, dtype=torch.float64) for x in (1.0, _SMALL))
        size = float(activation.dual(one, one, one)[0])
        mean, slope = (float(part) / size for part in activation.dual(one, one, edge))
        return cls(activation, size, (mean, slope), round(_SMALL * slope / mean))

    def __call__(self, c: Float[Tensor, "*shape"]) -> tuple[Tensor, Tensor]:
        one = c.new_ones(())
        mean, slope = self.activation.dual(one, one, c)
        return mean / self.size, slope / self.size

    def stepped(self, s: DeepKernel) -> tuple[DeepKernel, DeepKernel]:
        """κ(s) and κ̇(s)."""
        steps = [DeepKernel(part.sign(), part.abs().log()) for part in self(s.value())]
        if self.order == 0:  # κ(0) is not 0, and nothing is lost
            return steps[0], steps[1]
        tiny = s.log < math.log(_SMALL)
        # Finite, so that to the power 0 even a correlation of 0 gives 1.
        beyond = (s.log - math.log(_SMALL)).clamp(min=-torch.finfo(s.log.dtype).max)
        mean, slope = (
            DeepKernel(
                torch.where(tiny, s.sign**power, step.sign),
                torch.where(tiny, math.log(edge) + power * beyond, step.log),
            )
            for step, edge, power in zip(
                steps, self.at_edge, (self.order, self.order - 1), strict=True
            )
        )
        return mean, slope

    def linear(self, theta: DeepKernel, s: DeepKernel, steps: int) -> DeepKernel:
        """After so many steps with κ(s) = A'² s: A'^(2 n) (Θ + n s)."""
        total = _sum(theta, DeepKernel(s.sign, s.log + math.log(steps)))
        return DeepKernel(total.sign, total.log + steps * math.log(self.at_edge[1]))


def _sum(one: DeepKernel, other: DeepKernel) -> DeepKernel:
    top = torch.maximum(one.log, other.log)
    safe = torch.where(top.isfinite(), top, 0.0)
    total = one.sign * (one.log - safe).exp() + other.sign * (other.log - safe).exp()
    return DeepKernel(total.sign(), safe + total.abs().log())
