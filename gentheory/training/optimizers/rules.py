"""First-order rules: what a step makes of one gradient, as `torch.optim` does for one model."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

State: TypeAlias = Mapping[str, Tensor]
"""What a rule remembers between two steps: [M, ...] by name."""
Moved: TypeAlias = tuple[Tensor, dict[str, Tensor]]


@runtime_checkable
class Settings(Protocol):
    """A dataclass of what M models have of their own."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Own = TypeVar("Own", bound=Settings)


@runtime_checkable
class Rule(Settings, Protocol):
    """An optimizer of M models with their own hyper-parameters, each a tensor [M, 1].

    Weight decay may be one for each parameter, [M, P].
    """

    def start(self, theta: Float[Tensor, "M P"]) -> dict[str, Tensor]:
        """The state before the first step."""
        ...

    def step(
        self,
        theta: Float[Tensor, "M P"],
        state: State,
        gradient: Float[Tensor, "M P"],
        learning_rate: Float[Tensor, "M 1"],
    ) -> Moved:
        """The new (theta, state). The gradient may be overwritten, nothing else is."""
        ...


def take(settings: Own, rows: Tensor) -> Own:
    """A rule or a search for these models of the stack alone; its masks are of all models."""
    named = {field.name: getattr(settings, field.name) for field in fields(settings)}
    own = {n: v[rows] for n, v in named.items() if torch.is_tensor(v) and v.is_floating_point()}
    return replace(settings, **own)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with coupled weight decay and heavy-ball momentum.

    g ← g + weight_decay · θ,  b ← momentum · b + g,  θ ← θ − learning_rate · b;  b starts at 0.
    With `nesterov` the last step is θ ← θ − learning_rate · (g + momentum · b).
    """

    momentum: Float[Tensor, "M 1"]
    weight_decay: Float[Tensor, "M _"]
    nesterov: bool = False
    decays: bool = True
    """Whether any weight decay is not 0; where none is, a pass over all numbers is spared."""

    def start(self, theta: Float[Tensor, "M P"]) -> dict[str, Tensor]:
        """No velocity."""
        return {"velocity": torch.zeros_like(theta)}

    def step(
        self,
        theta: Float[Tensor, "M P"],
        state: State,
        gradient: Float[Tensor, "M P"],
        learning_rate: Float[Tensor, "M 1"],
    ) -> Moved:
        """The new (theta, state)."""
        # In place: on a CPU a fresh tensor costs three times the pass over it.
        pull = gradient.addcmul_(theta, self.weight_decay) if self.decays else gradient
        if not self.nesterov:
            velocity = pull.addcmul_(state["velocity"], self.momentum)
            return theta.addcmul(velocity, learning_rate, value=-1), {"velocity": velocity}
        velocity = pull.addcmul(state["velocity"], self.momentum)
        ahead = pull.addcmul_(velocity, self.momentum)
        return theta.addcmul(ahead, learning_rate, value=-1), {"velocity": velocity}


@dataclass(frozen=True)
class RMSprop:
    """Steps divided by a running root mean square of the gradients (Tieleman and Hinton 2012).

    g ← g + weight_decay · θ,  v ← beta2 · v + (1 − beta2) g²,
    b ← momentum · b + g / (√v + epsilon),  θ ← θ − learning_rate · b;  v and b start at 0.
    """

    momentum: Float[Tensor, "M 1"]
    weight_decay: Float[Tensor, "M _"]
    beta2: Float[Tensor, "M 1"]
    epsilon: Float[Tensor, "M 1"]

    def start(self, theta: Float[Tensor, "M P"]) -> dict[str, Tensor]:
        """No velocity and no squares."""
        return {"velocity": torch.zeros_like(theta), "square": torch.zeros_like(theta)}

    def step(
        self,
        theta: Float[Tensor, "M P"],
        state: State,
        gradient: Float[Tensor, "M P"],
        learning_rate: Float[Tensor, "M 1"],
    ) -> Moved:
        """The new (theta, state)."""
        pull = gradient.addcmul_(theta, self.weight_decay)
        square = pull.square().lerp_(state["square"], self.beta2)
        velocity = pull.div_(square.sqrt().add_(self.epsilon))
        velocity.addcmul_(state["velocity"], self.momentum)
        moved = theta.addcmul(velocity, learning_rate, value=-1)
        return moved, {"velocity": velocity, "square": square}


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019) if `decoupled`.

    g ← g + weight_decay · θ, or θ ← (1 − learning_rate · weight_decay) θ if decoupled;
    m ← beta1 · m + (1 − beta1) g,  v ← beta2 · v + (1 − beta2) g²,
    θ ← θ − learning_rate · m̂ / (√v̂ + epsilon)  with  m̂ = m / (1 − beta1ᵗ),  v̂ = v / (1 − beta2ᵗ).
    """

    beta1: Float[Tensor, "M 1"]
    beta2: Float[Tensor, "M 1"]
    epsilon: Float[Tensor, "M 1"]
    weight_decay: Float[Tensor, "M _"]
    decoupled: bool = False

    def start(self, theta: Float[Tensor, "M P"]) -> dict[str, Tensor]:
        """No moments; steps are counted in float64, for powers of numbers near 1."""
        count = theta.new_zeros(len(theta), 1, dtype=torch.float64)
        return {"first": torch.zeros_like(theta), "second": torch.zeros_like(theta), "count": count}

    def step(
        self,
        theta: Float[Tensor, "M P"],
        state: State,
        gradient: Float[Tensor, "M P"],
        learning_rate: Float[Tensor, "M 1"],
    ) -> Moved:
        """The new (theta, state)."""
        decay = self.weight_decay
        pull = gradient if self.decoupled else gradient.addcmul_(theta, decay)
        second = pull.square().lerp_(state["second"], self.beta2)
        first = pull.lerp_(state["first"], self.beta1)
        count = state["count"] + 1
        root = (1 - self.beta2.double() ** count).sqrt().to(theta)
        # Both sides of the fraction times the root: one pass over the vectors less.
        size = learning_rate * root / (1 - self.beta1.double() ** count).to(theta)
        scale = second.sqrt().add_(self.epsilon * root)
        kept = theta * (1 - learning_rate * decay) if self.decoupled else theta
        moved = kept.addcmul(torch.div(first, scale, out=scale), size, value=-1)
        return moved, {"first": first, "second": second, "count": count}
