"""Training a stack of models of one architecture at once, each as if it were alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from gentheory.data.split import Split
from gentheory.losses import Loss
from gentheory.params import Layout
from gentheory.training.evaluate import stacked_outputs
from gentheory.training.optim import SGD
from gentheory.training.recorder import Recorder
from gentheory.training.snapshots import Snapshots
from gentheory.training.stack import Outcome, Stack, Task
from gentheory.trajectory import Trajectory

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
    keep_trajectory: bool = False
    """Keep means over windows of training, for measures of the way a model went."""


@dataclass(frozen=True)
class Trained:
    """A trained stack. A diverged model stays at its parameters after its last good epoch."""

    theta: Float[Tensor, "M P"]
    outcomes: tuple[Outcome, ...]
    steps: Int[Tensor, " M"]
    training_time: Float[Tensor, " M"]  # Σ learning rate / (1 − momentum) over the steps
    curve: Float[Tensor, "T M"]  # training loss before the first and after each epoch; nan at end
    trajectory: Trajectory | None = None
    """Of the stack, if it was kept; that of a diverged model may hold nan."""
    statistics: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Running statistics of normalization, [M, ...] by name."""
    snapshots: Snapshots | None = None
    """The stack after each of the epochs that were asked for; None without any."""


def train(
    module: nn.Module,
    loss: Loss,
    theta: Float[Tensor, "M P"],
    data: Split,
    plan: Plan,
    orders: Sequence[Generator],
    *,
    rows: Int[Tensor, "M N"] | None = None,
    checkpoints: Sequence[int] = (),
    progress: Callable[[float], None] | None = None,
) -> Trained:
    """Train M models, model m in the batch order of `orders[m]`.

    Each sees all the data or, as in cross-validation, only the examples at its `rows`, as many
    as the others: then its curve, its target and its residuals are over these alone. A stack
    gives each model the weights that training it alone gives, up to rounding: nothing is shared
    between models, and one that diverges or reaches its target leaves the computation.
    `checkpoints` are epochs, rising from 0, before training, after which the stack is kept too.
    `progress` is called after each epoch with the share of epochs done.
    """
    rows = None if rows is None else rows.to(data.inputs.device)
    task = Task(module, loss, data, rows)
    stack = Stack.start(task, theta, plan.epochs)
    recorder = _recorder(task, plan, theta) if plan.keep_trajectory else None
    snapshots = Snapshots.start(checkpoints, stack) if checkpoints else None
    gradient = _stacked_gradient(module, loss)
    optimizer = SGD(plan.momentum.to(theta)[:, None], plan.weight_decay.to(theta)[:, None])
    effective = 1 / (1 - plan.momentum.double())
    factors = _factors(plan, plan.epochs * math.ceil(task.num_examples / plan.batch_size))
    for epoch, in_epoch in enumerate(factors.chunk(plan.epochs), 1):
        models = stack.running()
        if not len(models):
            break
        here = models.to(theta.device)
        order = _shuffled(task, orders, models).to(theta.device)
        rates = in_epoch[:, None] * plan.learning_rate[models].double()
        state = (stack.theta[here], stack.buffer[here])
        carried = {name: each[here] for name, each in stack.statistics.items()}
        own = optimizer.take(here)
        for examples, rate in zip(order.split(plan.batch_size, dim=1), rates, strict=True):
            index = task.index(here, examples)
            inputs, targets = data.inputs[index].to(theta.dtype), data.targets[index]
            found, (outputs, carried) = gradient(state[0], carried, inputs, targets)
            if recorder is not None:
                duration = rate * effective[models]
                recorder.see(epoch, here, examples, outputs, targets, duration)
            state = own.step(*state, found, rate.to(theta)[:, None])
        if recorder is not None:
            recorder.end_epoch(epoch, here, state[0])
        stack.steps[models] += len(in_epoch)
        duration = rates.sum(0) * effective[models]
        losses = task.losses(here, state[0], carried)
        stack.advance(epoch, models, state, carried, losses, duration, plan.stop_at_loss)
        if snapshots is not None:
            snapshots.see(epoch, stack)
        if progress is not None:
            progress(epoch / plan.epochs)
    outcomes: list[Outcome] = [outcome or "finished" for outcome in stack.outcomes]
    kept = None if recorder is None else recorder.trajectory(theta.dtype)
    ended = (stack.theta, tuple(outcomes), stack.steps, stack.time, stack.curve)
    return Trained(*ended, kept, stack.statistics, snapshots)


def _recorder(task: Task, plan: Plan, theta: Float[Tensor, "M P"]) -> Recorder:
    example = (task.data.inputs[:1], task.data.targets[:1])
    statistics = task.statistics(theta[:1])
    outputs, _ = next(stacked_outputs(task.module, theta[:1], *example, statistics=statistics))
    return Recorder.start(task.loss, theta, plan.epochs, (task.num_examples, outputs.shape[-1]))


def _shuffled(task: Task, orders: Sequence[Generator], models: Tensor) -> Int[Tensor, "M N"]:
    """The next epoch's order of each model's own examples."""
    drawn = [torch.randperm(task.num_examples, generator=orders[m]) for m in models.tolist()]
    return torch.stack(drawn)


def _stacked_gradient(
    module: nn.Module, loss: Loss
) -> Callable[..., tuple[Float[Tensor, "M P"], tuple[Float[Tensor, "M B C"], dict[str, Tensor]]]]:
    """(theta [M, P], statistics, inputs [M, B, ...], targets [M, B]) -> what a step needs.

    That is the gradients of the mean losses, and the outputs with the new running statistics.
    """
    layout = Layout.of(module)

    def mean_loss(
        theta: Tensor, statistics: dict[str, Tensor], inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        tensors = layout.unflatten(theta) | statistics
        # What the call puts in the place of a buffer stands in this dictionary afterwards.
        outputs = torch.func.functional_call(module, tensors, (inputs,))
        carried = {name: tensors[name] for name in statistics}
        return loss.values(outputs, targets).mean(), (outputs, carried)

    return torch.func.vmap(torch.func.grad(mean_loss, has_aux=True))


def _factors(plan: Plan, total: int) -> Float[Tensor, " T"]:
    """What the schedule makes of the learning rate at each of all steps."""
    if plan.schedule == "cosine":
        return 0.5 * (1 + torch.cos(math.pi * torch.arange(total, dtype=torch.float64) / total))
    return torch.ones(total, dtype=torch.float64)
