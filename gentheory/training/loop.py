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
from gentheory.training.evaluate import example_losses, output_gradients
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
    progress: Callable[[float], None] | None = None,
) -> Trained:
    """Train M models on the same examples, model m in the batch order of `orders[m]`.

    A stack gives each model the weights that training it alone gives, up to rounding: nothing is
    shared between models, and one that diverges or reaches its target leaves the computation.
    `progress` is called after each epoch with the share of epochs done.
    """
    gradient = _stacked_gradient(module, loss)
    optimizer = SGD(plan.momentum.to(theta)[:, None], plan.weight_decay.to(theta)[:, None])
    buffer = torch.zeros_like(theta)
    outcomes: list[Outcome | None] = [None] * len(theta)
    steps = torch.zeros(len(theta), dtype=torch.int64)
    time = torch.zeros(len(theta), dtype=torch.float64)
    curve = torch.full((plan.epochs + 1, len(theta)), torch.nan, dtype=torch.float64)
    curve[0] = _mean_losses(module, loss, theta, data)
    path = _ResidualPath.start(module, loss, theta, data) if plan.keep_residuals else None
    factors = _factors(plan, plan.epochs * math.ceil(len(data) / plan.batch_size))
    for epoch, in_epoch in enumerate(factors.chunk(plan.epochs)):
        rows = torch.tensor([m for m, outcome in enumerate(outcomes) if outcome is None])
        if not len(rows):
            break
        order = torch.stack([torch.randperm(len(data), generator=orders[int(m)]) for m in rows])
        here = rows.to(theta.device)
        after, after_buffer = _epoch(
            gradient,
            optimizer.take(here),
            (theta[here], buffer[here]),
            data,
            order.to(theta.device).split(plan.batch_size, dim=1),
            in_epoch[:, None] * plan.learning_rate[rows],
        )
        steps[rows] += len(in_epoch)
        effective = plan.learning_rate[rows].double() / (1 - plan.momentum[rows].double())
        duration = in_epoch.sum() * effective
        time[rows] += duration
        losses = _mean_losses(module, loss, after, data)
        good = losses.isfinite() & (losses <= DIVERGED_ABOVE * curve[0, rows])
        good &= after.isfinite().all(1).cpu()
        curve[epoch + 1, rows] = torch.where(good, losses, torch.nan)
        kept = good.to(theta.device)
        theta = theta.index_copy(0, here[kept], after[kept])
        buffer = buffer.index_copy(0, here[kept], after_buffer[kept])
        if path is not None:
            path.extend(after[kept], rows[good], duration[good])
        for m, fine, value in zip(rows.tolist(), good.tolist(), losses.tolist(), strict=True):
            outcomes[m] = _outcome(plan, fine, value)
        if progress is not None:
            progress((epoch + 1) / plan.epochs)
    final: list[Outcome] = [outcome or "finished" for outcome in outcomes]
    residuals = None if path is None else path.mean()
    return Trained(theta, tuple(final), steps, time, curve, residuals)


@dataclass
class _ResidualPath:
    """The integral of a stack's residuals over its learning-rate time, as training goes on."""

    gradients: Callable[[Tensor], Float[Tensor, "M N C"]]
    last: Float[Tensor, "M N C"]
    integral: Float[Tensor, "M N C"]
    time: Float[Tensor, " M"]

    @classmethod
    def start(
        cls, module: nn.Module, loss: Loss, theta: Float[Tensor, "M P"], data: Split
    ) -> "_ResidualPath":
        def gradients(theta: Tensor) -> Tensor:
            return output_gradients(module, loss, theta, data.inputs, data.targets)

        first = gradients(theta)
        return cls(gradients, first, torch.zeros_like(first), first.new_zeros(len(theta)))

    def extend(
        self, theta: Float[Tensor, "M P"], rows: Tensor, duration: Float[Tensor, " M"]
    ) -> None:
        """Go on to these parameters of the models in `rows`, which took them this long."""
        if not len(rows):
            return
        now, duration = self.gradients(theta), duration.to(self.time)
        rows = rows.to(now.device)
        self.integral[rows] += 0.5 * duration[:, None, None] * (self.last[rows] + now)
        self.last[rows] = now
        self.time[rows] += duration

    def mean(self) -> Float[Tensor, "M N C"]:
        return self.integral / self.time[:, None, None]


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


def _outcome(plan: Plan, fine: bool, loss: float) -> Outcome | None:
    """What has become of a model after an epoch; None while it goes on."""
    if not fine:
        return "diverged"
    return "target" if plan.stop_at_loss is not None and loss <= plan.stop_at_loss else None


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


def _factors(plan: Plan, total: int) -> Float[Tensor, " T"]:
    """What the schedule makes of the learning rate at each of all steps."""
    if plan.schedule == "cosine":
        return 0.5 * (1 + torch.cos(math.pi * torch.arange(total, dtype=torch.float64) / total))
    return torch.ones(total, dtype=torch.float64)
