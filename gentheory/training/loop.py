"""Training a stack of models of one architecture at once, each as if it were alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from gentheory.data.split import Split
from gentheory.losses import Loss
from gentheory.params import Layout
from gentheory.training.optim import SGD
from gentheory.training.stack import Outcome, Stack, Task

Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class Plan:
    """How a stack is trained; what is one number here is shared, what is [M] is each model's."""

    epochs: int
    batch_size: int
    learning_rate: Float[Tensor, " M"]
    momentum: Float[Tensor, " M"]
    weight_decay: Float[Tensor, " M"]
    schedule: Schedule = "constant"
    stop_at_loss: float | None = None
    """Stop a model once its training loss, taken after each epoch, is at most this."""
    keep_residuals: bool = False
    """Keep the mean over training of the outputs' gradients on the training examples."""


@dataclass(frozen=True)
class Trained:
    """A trained stack. A diverged model stays at its parameters after its last good epoch."""

    theta: Float[Tensor, "M P"]
    outcomes: tuple[Outcome, ...]
    steps: Int[Tensor, " M"]
    training_time: Float[Tensor, " M"]  # Σ learning rate / (1 − momentum) over the steps
    curve: Float[Tensor, "T M"]  # training loss before the first and after each epoch; nan at end
    mean_residuals: Float[Tensor, "M N C"] | None = None
    """Outputs' gradients averaged over the learning-rate time, by trapezoids from epoch to epoch;
    nan for a model that diverged in its first epoch."""


def train(
    module: nn.Module,
    loss: Loss,
    theta: Float[Tensor, "M P"],
    data: Split,
    plan: Plan,
    orders: Sequence[Generator],
    *,
    rows: Int[Tensor, "M N"] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Trained:
    """Train M models, model m in the batch order of `orders[m]`.

    Each sees all the data or, as in cross-validation, only the examples at its `rows`, as many
    as the others: then its curve, its target and its residuals are over these alone. A stack
    gives each model the weights that training it alone gives, up to rounding: nothing is shared
    between models, and one that diverges or reaches its target leaves the computation.
    `progress` is called after each epoch with the share of epochs done.
    """
    rows = None if rows is None else rows.to(data.inputs.device)
    task = Task(module, loss, data, rows, plan.keep_residuals)
    stack = Stack.start(theta, task.look(torch.arange(len(theta)), theta), plan.epochs)
    gradient = _stacked_gradient(module, loss)
    optimizer = SGD(plan.momentum.to(theta)[:, None], plan.weight_decay.to(theta)[:, None])
    effective = plan.learning_rate.double() / (1 - plan.momentum.double())
    factors = _factors(plan, plan.epochs * math.ceil(task.num_examples / plan.batch_size))
    for epoch, in_epoch in enumerate(factors.chunk(plan.epochs), 1):
        models = stack.running()
        if not len(models):
            break
        here = models.to(theta.device)
        state = _epoch(
            gradient,
            optimizer.take(here),
            (stack.theta[here], stack.buffer[here]),
            data,
            _shuffled(task, orders, models).split(plan.batch_size, dim=1),
            in_epoch[:, None] * plan.learning_rate[models],
        )
        duration = in_epoch.sum() * effective[models]
        stack.steps[models] += len(in_epoch)
        look = task.look(models, state[0])
        stack.advance(epoch, models, state, look, duration, plan.stop_at_loss)
        if progress is not None:
            progress(epoch / plan.epochs)
    outcomes: list[Outcome] = [outcome or "finished" for outcome in stack.outcomes]
    residuals = None if stack.path is None else stack.path.mean()
    return Trained(stack.theta, tuple(outcomes), stack.steps, stack.time, stack.curve, residuals)


def _shuffled(task: Task, orders: Sequence[Generator], models: Tensor) -> Int[Tensor, "M N"]:
    """The next epoch's order of each model's examples."""
    drawn = [torch.randperm(task.num_examples, generator=orders[m]) for m in models.tolist()]
    return task.order(models, torch.stack(drawn))


def _epoch(
    gradient: Callable[..., Float[Tensor, "M P"]],
    optimizer: SGD,
    state: tuple[Float[Tensor, "M P"], Float[Tensor, "M P"]],
    data: Split,
    batches: Sequence[Int[Tensor, "M _"]],  # the last one may be smaller
    rates: Float[Tensor, "T M"],
) -> tuple[Float[Tensor, "M P"], Float[Tensor, "M P"]]:
    """(theta, buffer) after one step a batch, each model at its own rate."""
    theta, buffer = state
    for index, rate in zip(batches, rates.to(theta), strict=True):
        inputs, targets = data.inputs[index].to(theta.dtype), data.targets[index]
        found = gradient(theta, inputs, targets)
        theta, buffer = optimizer.step(theta, buffer, found, rate[:, None])
    return theta, buffer


def _stacked_gradient(module: nn.Module, loss: Loss) -> Callable[..., Float[Tensor, "M P"]]:
    """(theta [M, P], inputs [M, B, ...], targets [M, B]) -> gradients of the mean losses."""
    layout = Layout.of(module)

    def mean_loss(theta: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = torch.func.functional_call(module, layout.unflatten(theta), (inputs,))
        return loss.values(outputs, targets).mean()

    return torch.func.vmap(torch.func.grad(mean_loss))


def _factors(plan: Plan, total: int) -> Float[Tensor, " T"]:
    """What the schedule makes of the learning rate at each of all steps."""
    if plan.schedule == "cosine":
        return 0.5 * (1 + torch.cos(math.pi * torch.arange(total, dtype=torch.float64) / total))
    return torch.ones(total, dtype=torch.float64)
