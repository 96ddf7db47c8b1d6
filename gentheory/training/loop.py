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
from gentheory.training.evaluate import example_losses
from gentheory.training.optim import SGD

Schedule = Literal["constant", "cosine"]
Outcome = Literal["finished", "target", "diverged"]

DIVERGED_ABOVE = 100.0
"""A training loss this many times the first one, or not finite, counts as diverged."""


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


@dataclass(frozen=True)
class Trained:
    """A trained stack. A diverged model stays at its parameters after its last good epoch."""

    theta: Float[Tensor, "M P"]
    outcomes: tuple[Outcome, ...]
    steps: Int[Tensor, " M"]
    training_time: Float[Tensor, " M"]  # Σ learning rate / (1 − momentum) over the steps
    curve: Float[Tensor, "T M"]  # training loss before the first and after each epoch; nan at end


def train(
    module: nn.Module,
    loss: Loss,
    theta: Float[Tensor, "M P"],
    data: Split,
    plan: Plan,
    orders: Sequence[Generator],
    *,
    progress: Callable[[float], None] | None = None,
) -> Trained:
    """Train M models on the same examples, model m in the batch order of `orders[m]`.

    A stack gives each model the weights that training it alone gives, up to rounding: nothing is
    shared between models, and one that diverges or reaches its target leaves the computation.
    `progress` is called after each epoch with the share of epochs done.
    """
    step = _stacked_gradient(module, loss)
    optimizer = SGD(plan.momentum.to(theta)[:, None], plan.weight_decay.to(theta)[:, None])
    buffer, steps = torch.zeros_like(theta), torch.zeros(len(theta), dtype=torch.int64)
    time = torch.zeros(len(theta), dtype=torch.float64)
    outcomes: list[Outcome | None] = [None] * len(theta)
    curve = torch.full((plan.epochs + 1, len(theta)), torch.nan, dtype=torch.float64)
    curve[0] = _mean_losses(module, loss, theta, data)
    per_epoch = math.ceil(len(data) / plan.batch_size)
    for epoch in range(plan.epochs):
        rows = torch.tensor([m for m, outcome in enumerate(outcomes) if outcome is None])
        if not len(rows):
            break
        some_theta, some_buffer, some = theta[rows], buffer[rows], optimizer.take(rows)
        order = torch.stack([torch.randperm(len(data), generator=orders[m]) for m in rows])
        for number, index in enumerate(order.to(theta.device).split(plan.batch_size, dim=1)):
            factor = _factor(plan, epoch * per_epoch + number, plan.epochs * per_epoch)
            rate = factor * plan.learning_rate[rows].to(theta)[:, None]
            inputs, targets = data.inputs[index].to(theta.dtype), data.targets[index]
            gradient = step(some_theta, inputs, targets)
            some_theta, some_buffer = some.step(some_theta, some_buffer, gradient, rate)
            effective = plan.learning_rate[rows].double() / (1 - plan.momentum[rows].double())
            time[rows] += factor * effective
        steps[rows] += per_epoch
        after = _mean_losses(module, loss, some_theta, data)
        bound = DIVERGED_ABOVE * curve[0, rows]
        good = after.isfinite() & (after <= bound) & some_theta.isfinite().all(1).cpu()
        curve[epoch + 1, rows] = torch.where(good, after, torch.nan)
        theta = theta.index_copy(0, rows[good], some_theta[good])
        buffer = buffer.index_copy(0, rows[good], some_buffer[good])
        for m, fine, value in zip(rows.tolist(), good.tolist(), after.tolist(), strict=True):
            if not fine:
                outcomes[m] = "diverged"
            elif plan.stop_at_loss is not None and value <= plan.stop_at_loss:
                outcomes[m] = "target"
        if progress is not None:
            progress((epoch + 1) / plan.epochs)
    final = tuple(outcome or "finished" for outcome in outcomes)
    return Trained(theta, final, steps, time, curve)


def _stacked_gradient(module: nn.Module, loss: Loss) -> Callable[..., Float[Tensor, "M P"]]:
    """(theta [M, P], inputs [M, B, ...], targets [M, B]) -> gradients of the mean losses."""
    layout = Layout.of(module)

    def mean_loss(theta: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = torch.func.functional_call(module, layout.unflatten(theta), (inputs,))
        return loss.values(outputs, targets).mean()

    return torch.func.vmap(torch.func.grad(mean_loss))


def _mean_losses(
    module: nn.Module, loss: Loss, theta: Float[Tensor, "M P"], data: Split
) -> Float[Tensor, " M"]:
    return example_losses(module, loss, theta, data.inputs, data.targets)[0].mean(1).cpu()


def _factor(plan: Plan, step: int, total: int) -> float:
    """What the schedule makes of the learning rate at this step of `total`."""
    if plan.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / total))
    return 1.0
