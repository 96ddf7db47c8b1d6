"""How many models to train at once: as many as memory holds, and as a short trial finds fastest."""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.losses import Loss
from gentheory.training import optimizers
from gentheory.training.evaluate import in_eval_mode
from gentheory.training.loop import train
from gentheory.training.plan import Plan

LARGEST = 512
_STEPS, _REPETITIONS = 4, 3
_WORTH = 0.05
"""A larger stack is taken for at least so much less time a model."""
_OVERHEAD = 1.25
"""What an allocator holds beyond what is asked of it."""


@dataclass(frozen=True)
class Candidate:
    """A size that was tried."""

    models: int
    seconds: float
    """Of one step of one model, with its share of the training loss after an epoch."""
    memory: int
    """Bytes, as predicted."""


def stack_size(
    module: nn.Module,
    loss: Loss,
    initial: Float[Tensor, "M P"],
    data: Split,
    plan: Plan,
    *,
    memory: int | None = None,
) -> tuple[int, list[Candidate]]:
    """The smallest stack within 5 % of the fastest, among powers of two, and all that were tried.

    The first of the models stands for all. `memory` are the bytes that training may take; half of
    what is available unless given. Times differ from run to run: whoever needs the same stacks
    again keeps the number. Raises `InputError` where one model alone would take more memory.
    """
    allowed = available_memory(initial.device) // 2 if memory is None else memory
    needed = stack_memory(module, data, plan, initial[0])
    if needed > allowed:
        raise InputError(
            f"training of {type(module).__name__}, {initial.shape[1]:,} parameters",
            f"{needed / 2**20:.0f} MB for one model",
            f"at most {allowed / 2**20:.0f} MB",
            "use smaller batches, a smaller model or fewer processes",
        )
    tried = list(_tried(module, loss, initial[:1], data, plan, needed, allowed))
    fastest = min(candidate.seconds for candidate in tried)
    good = [c.models for c in tried if c.seconds <= (1 + _WORTH) * fastest]
    return min(good), tried


def _tried(
    module: nn.Module,
    loss: Loss,
    initial: Float[Tensor, "1 P"],
    data: Split,
    plan: Plan,
    needed: int,
    allowed: int,
) -> Iterator[Candidate]:
    """Sizes 1, 2, 4, …, until memory ends or twice in a row a model takes no less time."""
    best, worse, models = math.inf, 0, 1
    while models * needed <= allowed and models <= LARGEST and worse < 2:
        seconds = step_seconds(module, loss, initial, data, plan, models)
        yield Candidate(models, seconds, models * needed)
        worse = 0 if seconds <= (1 - _WORTH) * best else worse + 1
        best, models = min(best, seconds), 2 * models


def step_seconds(
    module: nn.Module,
    loss: Loss,
    initial: Float[Tensor, "M P"],
    data: Split,
    plan: Plan,
    models: int,
) -> float:
    """Seconds of one step of one model in a stack of so many, the least of a few short trainings.

    With the training loss before and after an epoch of a few batches. All models of the trial are
    copies of the first one.
    """
    count = min(len(data), _STEPS * plan.batch_size)
    some = data.take(torch.arange(count))
    short = _short(plan, models)
    theta = initial[:1].repeat(models, 1)
    seconds: list[float] = []
    for _ in range(_REPETITIONS + 1):  # once to warm up
        orders = [Generator().manual_seed(m) for m in range(models)]
        started = time.perf_counter()
        train(module, loss, theta, some, short, orders)
        _wait(initial.device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) / (models * plan.epoch_steps(count))


def stack_memory(module: nn.Module, data: Split, plan: Plan, theta: Float[Tensor, " P"]) -> int:
    """Bytes that the training of each model of a stack adds, predicted without training it.

    Parameters, their gradient and the optimizer's state, with what a step makes anew beside what
    it starts from; the layers' outputs on a batch, forwards and backwards; of a trajectory its
    sums in float64.
    """
    one = _of_first(plan)
    rule = optimizers.rule(
        plan.optimizer,
        optimizers.values(plan.optimizer, one.own, theta[None]),
        momentum=one.momentum.to(theta)[:, None],
        weight_decay=one.weight_decay.to(theta)[:, None],
    )
    states = sum(state.numel() == len(theta) for state in rule.start(theta[None]).values())
    passing = _passing(module, data.inputs[:1])
    batch = min(plan.batch_size, len(data))
    vectors = 4 + 3 * states + (plan.classifier_decay is not None)  # then a decay a parameter
    numbers = vectors * len(theta) + 2 * batch * (data.inputs[0].numel() + passing)
    kept = 3 * (8 * len(data) * (data.num_classes + 3) + theta.element_size() * len(theta))
    return int(_OVERHEAD * numbers * theta.element_size()) + kept * plan.keep_trajectory


def available_memory(device: torch.device) -> int:
    """Bytes that are free now: of the device, or of this machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_first(plan: Plan) -> Plan:
    """For the first model alone."""
    return replace(
        plan,
        learning_rate=plan.learning_rate[:1],
        momentum=plan.momentum[:1],
        weight_decay=plan.weight_decay[:1],
        own={name: values[:1] for name, values in plan.own.items()},
        pof_learning_rate=plan.pof_rate[:1],
        classifier_decay=None if plan.classifier_decay is None else plan.classifier_decay[:1],
    )


def _short(plan: Plan, models: int) -> Plan:
    """One epoch of as many copies of the first model, which nothing stops."""
    copies = _of_first(plan).repeated(models)
    nothing = {"stop_at_loss": None, "stop_at_gradient_norm": None, "stop_at_curvature": None}
    return replace(copies, epochs=1, warm_up=0, pof_epochs=0, **nothing)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _passing(module: nn.Module, example: Tensor) -> int:
    """Numbers that one example's layers put out."""
    total = 0

    def hook(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += output.numel()

    leaves = [part for part in module.modules() if next(part.children(), None) is None]
    handles = [leaf.register_forward_hook(hook) for leaf in leaves]
    try:
        with torch.no_grad(), in_eval_mode(module):
            module(example.to(next(module.parameters())))
    finally:
        for handle in handles:
            handle.remove()
    return total
