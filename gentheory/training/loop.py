"""Training a stack of models of one architecture at once, each as if it were alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from gentheory.data.split import Split
from gentheory.losses import Loss
from gentheory.params import Layout
from gentheory.training import optimizers, pof, reweighting, saf
from gentheory.training.evaluate import stacked_outputs
from gentheory.training.gradient import stacked_gradient
from gentheory.training.looks import gradient_norms, top_eigenvalues
from gentheory.training.plan import Plan, check_augmentation
from gentheory.training.recorder import Recorder
from gentheory.training.schedule import factors
from gentheory.training.snapshots import Snapshots
from gentheory.training.stack import Outcome, Stack, Task
from gentheory.training.state import State, Stepper
from gentheory.trajectory import Trajectory

__all__ = ["Plan", "Trained", "train"]


@dataclass(frozen=True)
class Trained:
    """A trained stack. A diverged model stays at its parameters after its last good epoch."""

    theta: Float[Tensor, "M P"]
    outcomes: tuple[Outcome, ...]
    steps: Int[Tensor, " M"]
    training_time: Float[Tensor, " M"]
    """Σ learning rate / (1 − momentum) over the steps: of SGD, and of what steps by its rule, the
    time of the flow that it follows. Adam's have no momentum in this sense, so theirs is the sum
    of the learning rates; an adaptive step's length in time is not in it."""
    curve: Float[Tensor, "T M"]
    """Training loss before the first and after each epoch; nan after a model's end."""
    trajectory: Trajectory | None = None
    """Of the stack, if it was kept; that of a diverged model may hold nan."""
    statistics: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Running statistics of normalization, [M, ...] by name."""
    snapshots: Snapshots | None = None
    """The stack after each of the steps that were asked for; None without any."""


def train(
    module: nn.Module,
    loss: Loss,
    theta: Float[Tensor, "M P"],
    data: Split,
    plan: Plan,
    orders: Sequence[Generator],
    *,
    rows: Int[Tensor, "M N"] | None = None,
    augmenting: Sequence[Generator] = (),
    checkpoints: Sequence[int] = (),
    progress: Callable[[float], None] | None = None,
) -> Trained:
    """Train M models, model m in the batch order of `orders[m]`, augmented by `augmenting[m]`.

    Each sees all the data or, as in cross-validation, only the examples at its `rows`, as many
    as the others: then its curve, its target and its residuals are over these alone. A stack
    gives each model the weights that training it alone gives, up to rounding: nothing is shared
    between models, and one that diverges or meets a stopping rule leaves the computation.
    `checkpoints` are steps of the optimizer, rising from 0, before training, after which the stack
    is kept too; inside an epoch a model is there if its parameters and training loss are finite.
    `progress` is called after each epoch with the share of epochs done. Raises `InputError`
    where the augmentation does not go with the data, the loss or the rest of the plan, and for
    checkpoints that do not rise or lie beyond the `plan.epochs`.
    """
    check_augmentation(plan, loss, data)
    rows = None if rows is None else rows.to(data.inputs.device)
    task, total = Task(module, loss, data, rows), plan.epochs + plan.pof_epochs
    own = optimizers.values(plan.optimizer, plan.own, theta)
    stepper = _stepper(task, plan, own, theta)
    stack = _start(task, plan, stepper, theta)
    recorder = _recorder(task, plan, theta) if plan.keep_trajectory else None
    training = _Training(task, plan, orders, augmenting, stack, stepper, recorder)
    if plan.class_balance:
        given = (task.data.targets, task.data.num_classes, plan.class_balance)
        training.weights = reweighting.class_weights(*given)
    if checkpoints:
        size = {"epochs": plan.epochs, "epoch_steps": plan.epoch_steps(task.num_examples)}
        training.snapshots = Snapshots.start(checkpoints, stack, recorder, **size)
    if plan.optimizer == "saf":
        size = (plan.saf_delay, len(theta), task.num_examples, _num_outputs(task, theta))
        settings = (own["saf_weight"], own["saf_temperature"])
        training.memory = saf.Memory.of(size, plan.saf_start, *settings)
    for epoch, in_epoch in enumerate(_factors(task, plan).chunk(plan.epochs), 1):
        models = stack.running()
        if not len(models):
            break
        training.epoch(epoch, models, in_epoch)
        if progress is not None:
            progress(epoch / total)
    if training.snapshots is not None:
        training.snapshots.trim(stack)
    if plan.pof_epochs:
        pof.train(task, plan, stack, orders, progress=progress)
    outcomes: list[Outcome] = [outcome or "finished" for outcome in stack.outcomes]
    kept = None if recorder is None else recorder.trajectory(theta.dtype)
    ended = (stack.state.theta, tuple(outcomes), stack.steps, stack.time, stack.curve)
    return Trained(*ended, kept, stack.state.statistics, training.snapshots)


@dataclass
class _Training:
    """What the epochs of a stack's training have in common."""

    task: Task
    plan: Plan
    orders: Sequence[Generator]
    augmenting: Sequence[Generator]
    stack: Stack
    stepper: Stepper
    recorder: Recorder | None = None
    memory: saf.Memory | None = None
    snapshots: Snapshots | None = None
    weights: Float[Tensor, " C"] | None = None
    """Of the classes, where they are balanced."""
    curvatures: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    """Of each model after each epoch, where a rule looks at them."""

    def epoch(self, epoch: int, models: Int[Tensor, " M"], factors: Float[Tensor, " T"]) -> None:
        """One epoch of these models, from the first step to what has become of them."""
        plan, stack = self.plan, self.stack
        here = models.to(stack.state.theta.device)
        rates = factors[:, None] * plan.learning_rate[models].double()
        effective = 1 / (1 - plan.momentum[models].double())
        state = self._steps(epoch, here, rates, rates * effective)
        if self.recorder is not None:
            self.recorder.end_epoch(epoch, here, state.theta)
        losses = self.task.losses(here, state.theta, state.statistics)
        stack.advance(epoch, models, state, losses, len(factors), rates.sum(0) * effective)
        self._stop(models, losses)
        if self.snapshots is not None:
            self.snapshots.end_epoch(epoch, stack, self.recorder)

    def _steps(
        self,
        epoch: int,
        here: Int[Tensor, " M"],
        rates: Float[Tensor, "T M"],
        durations: Float[Tensor, "T M"],
    ) -> State:
        """The state after an epoch's steps."""
        state, stepper = self.stack.state.take(here), self.stepper.take(here)
        order = _shuffled(self.task, self.orders, here).to(here.device)
        batches = order.split(self.plan.batch_size, dim=1)
        steps = enumerate(zip(batches, rates, durations, strict=True), 1)
        for step, (examples, rate, duration) in steps:
            inputs, targets = self.task.batch(here, examples, state.theta.dtype)
            wanted = targets
            if self.plan.augmentation.present:
                inputs, wanted = self._augmented(here, inputs, targets)
            if self.memory is not None:
                wanted = self.memory.attached(epoch, here, examples, targets)
            if self.weights is not None:
                late = epoch > self.plan.balance_after
                wanted = reweighting.weighted(targets, self.weights if late else None)
            state, outputs = stepper.step(state, inputs, wanted, rate.to(state.theta)[:, None])
            if self.memory is not None:
                self.memory.keep(epoch, here, examples, outputs)
            if self.recorder is not None:
                self.recorder.see(epoch, here, examples, outputs, targets, duration)
            if step < len(durations):
                self._keep((epoch - 1) * len(durations) + step, here, state, durations[:step])
        return state

    def _keep(
        self, step: int, here: Int[Tensor, " M"], state: State, durations: Float[Tensor, "T M"]
    ) -> None:
        """Keep what stands inside an epoch after these steps of it, if it is a checkpoint."""
        if self.snapshots is None or step not in self.snapshots.steps:
            return
        losses, models = self.task.losses(here, state.theta, state.statistics), here.cpu()
        good = losses.isfinite() & state.theta.isfinite().all(1).cpu()
        time = self.stack.time[models] + durations.sum(0)
        self.snapshots.keep(step, models[good], state.take(good.to(here.device)), time[good])

    def _augmented(
        self, here: Int[Tensor, " M"], inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        streams = [self.augmenting[m] for m in here.tolist()]
        classes = self.task.data.num_classes
        return self.plan.augmentation.apply(inputs, targets, streams, num_classes=classes)

    def _stop(self, models: Int[Tensor, " M"], losses: Float[Tensor, " M"]) -> None:
        """Whose training ends here, by the first rule that is met."""
        plan, stack = self.plan, self.stack
        if plan.stop_at_loss is not None:
            reached = models[losses <= plan.stop_at_loss].tolist()
            stack.stop([m for m in reached if stack.outcomes[m] is None], "target")
        if plan.stop_at_gradient_norm is not None and len(going := stack.running()):
            norms = gradient_norms(self.task, *self._looked_at(going))
            stack.stop(going[norms <= plan.stop_at_gradient_norm].tolist(), "gradient")
        if plan.stop_at_curvature is not None and len(going := stack.running()):
            found = top_eigenvalues(self.task, *self._looked_at(going)).tolist()
            for m, value in zip(going.tolist(), found, strict=True):
                self.curvatures.setdefault(m, []).append(value)
            rule = plan.stop_at_curvature
            risen = [m for m in going.tolist() if rule.stops(self.curvatures[m])]
            stack.go_back(risen, rule.epochs_back)
            stack.stop(risen, "curvature")

    def _looked_at(self, models: Int[Tensor, " M"]) -> tuple[Tensor, State, Tensor]:
        here = models.to(self.stack.state.theta.device)
        decay = self.plan.objective_decay[models].to(self.stack.state.theta)[:, None]
        return here, self.stack.state.take(here), decay


def _stepper(
    task: Task, plan: Plan, own: Mapping[str, Tensor], theta: Float[Tensor, "M P"]
) -> Stepper:
    objective = task.loss.mean
    if plan.optimizer == "saf":
        objective = saf.objective(task.loss)
    elif plan.class_balance:
        objective = reweighting.objective(task.loss)
    gradient = stacked_gradient(task.module, objective)
    rule = optimizers.rule(
        plan.optimizer,
        own,
        momentum=plan.momentum.to(theta)[:, None],
        weight_decay=_decays(task, plan, theta),
        nesterov=plan.nesterov,
    )
    search = optimizers.search(plan.optimizer, own, Layout.of(task.module))
    return Stepper(gradient, rule, search)


def _decays(task: Task, plan: Plan, theta: Float[Tensor, "M P"]) -> Float[Tensor, "M _"]:
    """One for each model, or for each of its parameters where the classifier has its own."""
    decay = plan.weight_decay.to(theta)[:, None]
    if plan.classifier_decay is None:
        return decay
    marks = pof.classifier(task.module, place="classifier_decay").to(theta.device)
    return torch.where(marks, plan.classifier_decay.to(theta)[:, None], decay)


def _start(task: Task, plan: Plan, stepper: Stepper, theta: Float[Tensor, "M P"]) -> Stack:
    state = State(theta, stepper.rule.start(theta), task.statistics(theta))
    rule = plan.stop_at_curvature
    back = 0 if rule is None else rule.epochs_back
    return Stack.start(task, state, plan.epochs + plan.pof_epochs, epochs_back=back)


def _recorder(task: Task, plan: Plan, theta: Float[Tensor, "M P"]) -> Recorder:
    size = (task.num_examples, _num_outputs(task, theta))
    return Recorder.start(task.loss, theta, plan.epochs, size, classes=not task.data.real)


def _num_outputs(task: Task, theta: Float[Tensor, "M P"]) -> int:
    example = (task.data.inputs[:1], task.data.targets[:1])
    statistics = task.statistics(theta[:1])
    outputs, _ = next(stacked_outputs(task.module, theta[:1], *example, statistics=statistics))
    return outputs.shape[-1]


def _shuffled(task: Task, orders: Sequence[Generator], models: Tensor) -> Int[Tensor, "M N"]:
    """The next epoch's order of each model's own examples."""
    drawn = [torch.randperm(task.num_examples, generator=orders[m]) for m in models.tolist()]
    return torch.stack(drawn)


def _factors(task: Task, plan: Plan) -> Float[Tensor, " T"]:
    """What the schedule makes of the learning rate at each of all steps."""
    steps = plan.epoch_steps(task.num_examples)
    return factors(
        plan.schedule,
        plan.epochs * steps,
        warm_up=plan.warm_up * steps,
        step_factor=plan.step_factor,
        step_shares=plan.step_shares,
    )
