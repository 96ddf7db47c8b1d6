"""Optimizers as pure functions on a stack [M, P], each model with its own settings."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent as `torch.optim.SGD`: coupled weight decay, heavy-ball momentum.

    g ← g + weight_decay · θ,  b ← momentum · b + g,  θ ← θ − learning_rate · b;  b starts at 0.
    """

    momentum: Float[Tensor, "M 1"]
    weight_decay: Float[Tensor, "M 1"]

    def step(
        self,
        theta: Float[Tensor, "M P"],
        buffer: Float[Tensor, "M P"],
        gradient: Float[Tensor, "M P"],
        learning_rate: Float[Tensor, "M 1"],
    ) -> tuple[Float[Tensor, "M P"], Float[Tensor, "M P"]]:
        """The new (theta, buffer); the arguments are left as they were."""
        buffer = gradient.addcmul(theta, self.weight_decay).addcmul_(buffer, self.momentum)
        return theta.addcmul(buffer, learning_rate, value=-1), buffer

    def take(self, rows: Tensor) -> "SGD":
        """The settings of these models."""
        return SGD(self.momentum[rows], self.weight_decay[rows])
