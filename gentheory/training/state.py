"""Where the models of a stack stand between two steps, and what a step makes of it."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from gentheory.training.gradient import StackedGradient
from gentheory.training.optimizers.rules import Rule, take
from gentheory.training.optimizers.searches import Look, Search


@dataclass(frozen=True)
class State:
    """All that a step changes, [M, ...] each; never written in place."""

    theta: Float[Tensor, "M P"]
    optimizer: dict[str, Tensor]
    statistics: dict[str, Tensor]
    """Running statistics of normalization, by name."""

    def take(self, rows: Int[Tensor, " K"]) -> "State":
        """Of these models alone."""
        return State(
            self.theta[rows],
            {name: tensor[rows] for name, tensor in self.optimizer.items()},
            {name: tensor[rows] for name, tensor in self.statistics.items()},
        )

    def put(self, rows: Int[Tensor, " K"], other: "State") -> "State":
        """With these models where the other state has them."""

        def placed(own: dict[str, Tensor], new: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.index_copy(0, rows, new[name]) for name, tensor in own.items()}

        return State(
            self.theta.index_copy(0, rows, other.theta),
            placed(self.optimizer, other.optimizer),
            placed(self.statistics, other.statistics),
        )


@dataclass(frozen=True)
class Stepper:
    """One step of training, whatever the optimizer."""

    gradient: StackedGradient
    rule: Rule
    search: Search | None

    def take(self, rows: Int[Tensor, " K"]) -> "Stepper":
        """With the hyper-parameters of these models alone."""
        search = None if self.search is None else take(self.search, rows)
        return Stepper(self.gradient, take(self.rule, rows), search)

    def step(
        self,
        state: State,
        inputs: Float[Tensor, "M B ..."],
        targets: Any,
        learning_rate: Float[Tensor, "M 1"],
    ) -> tuple[State, Float[Tensor, "M B C"]]:
        """The next state, and the outputs before the step."""

        def at(theta: Tensor) -> Look:
            return self.gradient(theta, state.statistics, inputs, targets)

        found = at(state.theta) if self.search is None else self.search(state.theta, at)
        gradient, (outputs, statistics) = found
        moved, memory = self.rule.step(state.theta, state.optimizer, gradient, learning_rate)
        return State(moved, memory, statistics), outputs
