"""Post-training of the features under perturbed classifiers: PoF (Sato et al. 2022).

With φ the parameters before the last linear layer and w those of that layer, every step draws an
independent batch B' of 256 examples, and

1. takes g, the gradient of L_B' in w;
2. searches along w - s g: s = 1, 2, 4, … until L_B' is above its value at s = 0, then of 16 equal
   parts of s the one with the least L_B', s*. Where s reaches 100 first there is no s*;
3. moves φ by one step of SGD on the training batch, the classifier being w - u s* g with u
   uniform in [0, reach), or w itself where there is no s*.

w stays as it was. Running statistics of normalization move once a step, by the training batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from gentheory.errors import InputError
from gentheory.models.scaling import Symmetrized
from gentheory.params import Layout
from gentheory.training.gradient import StackedGradient, stacked_gradient
from gentheory.training.optimizers.rules import SGD, take
from gentheory.training.plan import Plan
from gentheory.training.stack import Stack, Task
from gentheory.training.state import State

_EXAMPLES = 256
_PARTS = 16
_DOUBLINGS = 7
"""Of s from 1: the last, 64, is the last below 100."""


def train(
    task: Task,
    plan: Plan,
    stack: Stack,
    orders: Sequence[Generator],
    *,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Go on for `plan.pof_epochs` with all models that have not diverged; the stack is advanced.

    Batches, independent batches and u of model m come from `orders[m]`. Raises `InputError` for a
    network without a last linear layer.
    """
    stage = _Stage.of(task, plan, stack.state.theta)
    steps, total = plan.epoch_steps(task.num_examples), plan.epochs + plan.pof_epochs
    velocity = stage.rule.start(stack.state.theta)
    stack.state = State(stack.state.theta, velocity, stack.state.statistics)
    for epoch in range(plan.epochs + 1, total + 1):
        models = torch.tensor([m for m, o in enumerate(stack.outcomes) if o != "diverged"])
        if not len(models):
            break
        here = models.to(stack.state.theta.device)
        drawn = [_drawn(task.num_examples, steps, orders[m]) for m in models.tolist()]
        draws = [torch.stack(part).to(here.device) for part in zip(*drawn, strict=True)]
        state = stage.epoch(here, stack.state.take(here), draws)
        losses = task.losses(here, state.theta, state.statistics)
        rate = plan.pof_rate[models].double()
        duration = steps * rate / (1 - plan.momentum[models].double())
        stack.advance(epoch, models, state, losses, steps, duration)
        if progress is not None:
            progress(epoch / total)


def _drawn(count: int, steps: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """An epoch's order, the independent batches of its steps, and their u before scaling."""
    order = torch.randperm(count, generator=generator)
    independent = torch.randint(count, (steps, _EXAMPLES), generator=generator)
    return order, independent, torch.rand(steps, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class _Stage:
    """What all steps have in common."""

    task: Task
    batch_size: int
    gradient: StackedGradient
    value: Callable[..., Tensor]
    """Mean losses [M] at (theta, statistics, inputs, targets)."""
    rule: SGD
    rate: Float[Tensor, "M 1"]
    reach: float
    is_classifier: Bool[Tensor, " P"]

    @classmethod
    def of(cls, task: Task, plan: Plan, theta: Float[Tensor, "M P"]) -> "_Stage":
        columns = (plan.momentum, plan.weight_decay, plan.pof_rate)
        momentum, decay, rate = (column.to(theta)[:, None] for column in columns)
        return cls(
            task,
            plan.batch_size,
            stacked_gradient(task.module, task.loss.mean),
            _values(task),
            SGD(momentum, decay, plan.nesterov),
            rate,
            plan.pof_reach,
            classifier(task.module).to(theta.device),
        )

    def epoch(self, here: Int[Tensor, " M"], state: State, draws: list[Tensor]) -> State:
        """The state after one pass over each model's examples."""
        order, independent, shares = draws
        rule, rate = take(self.rule, here), self.rate[here]
        reach = self.reach * shares.to(rate)
        for step, examples in enumerate(order.split(self.batch_size, dim=1)):
            other = self.task.batch(here, independent[:, step], state.theta.dtype)
            perturbed = self._perturbed(state, other, reach[:, step, None])
            batch = self.task.batch(here, examples, state.theta.dtype)
            found, (_, statistics) = self.gradient(perturbed, state.statistics, *batch)
            moved, velocity = rule.step(state.theta, state.optimizer, found, rate)
            theta = torch.where(self.is_classifier, state.theta, moved)
            state = State(theta, velocity, statistics)
        return state

    def _perturbed(
        self, state: State, batch: tuple[Tensor, Tensor], u: Float[Tensor, "M 1"]
    ) -> Float[Tensor, "M P"]:
        """theta with the classifier a random part of the way to its best on this batch."""
        gradient, _ = self.gradient(state.theta, state.statistics, *batch)
        gradient = gradient.mul_(self.is_classifier)

        def along(size: Float[Tensor, "M 1"]) -> Float[Tensor, "M P"]:
            return state.theta.addcmul(gradient, size, value=-1)

        def value(size: Float[Tensor, "M 1"]) -> Float[Tensor, "M 1"]:
            return self.value(along(size), state.statistics, *batch)[:, None]

        return along(u * line_search(value, torch.zeros_like(u)))


def line_search(
    value: Callable[[Float[Tensor, "M 1"]], Float[Tensor, "M 1"]], origin: Float[Tensor, "M 1"]
) -> Float[Tensor, "M 1"]:
    """s*, the best of 16 parts of the first s = 1, 2, 4, … < 100 whose value is above that at 0.

    `origin` are zeros; 0 where no s below 100 is. A value that is not a number counts as above.
    """
    size, start = torch.ones_like(origin), value(origin)
    found = torch.zeros_like(origin, dtype=torch.bool)
    for _ in range(_DOUBLINGS):
        found |= ~(value(size) <= start)
        size = torch.where(found, size, 2 * size)
    parts = [size * part / _PARTS for part in range(1, _PARTS + 1)]
    values = torch.stack([value(part) for part in parts]).nan_to_num(nan=torch.inf)
    best = torch.stack(parts).gather(0, values.argmin(0, keepdim=True))[0]
    return torch.where(found, best, 0)


def _values(task: Task) -> Callable[..., Tensor]:
    layout = Layout.of(task.module)

    def one(theta: Tensor, statistics: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        tensors = layout.unflatten(theta) | statistics
        return task.loss.mean(torch.func.functional_call(task.module, tensors, (x,)), y)

    return torch.no_grad()(torch.func.vmap(one))


def classifier(module: nn.Module, *, place: str = "pof_epochs") -> Bool[Tensor, " P"]:
    """Which parameters belong to the last linear layer, that of the highest place in the module.

    Raises `InputError`, which names the `place`, where there is none, or nothing before it.
    """
    layout = Layout.of(module)
    linear = [path for path, part in module.named_modules() if isinstance(part, nn.Linear)]
    found = f"{len(linear)} trainable linear layers"
    if any(isinstance(part, Symmetrized) for part in module.modules()):
        linear, found = [], "a difference of two networks with a classifier each"
    marks = torch.zeros(layout.size, dtype=torch.bool)
    if linear and linear[-1] in layout.layers:
        marks[layout.layers[linear[-1]]] = True
    if not marks.any() or marks.all():
        raise InputError(
            f"{place}, {type(module).__name__}",
            found,
            "features and a linear layer after them",
            f"leave {place} out for it",
        )
    return marks
