"""Models a minute: stacks in as many processes as there are threads, beside plain PyTorch there.

Each process has one thread. Ours trains stacks of the size that `stack_size` finds on a core with a
cache of 1 MB; plain PyTorch trains the same models one after the other, from the same weights, in
the same orders, with data in memory and no loader. All keep
the memory they were given, as a study's workers do. Both take the training loss before the first
and after each epoch. A third contestant does nothing but the stack's matrix products, of the same
sizes and in the same batches: ours reaches so much of the rate at which the machine can do these.
"""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import flops
from benchmarks.contest import OURS, Comparison, Job, relative
from benchmarks.nets import Problem, build
from gentheory import losses
from gentheory.data.split import Split
from gentheory.params import flatten, load_flat
from gentheory.study.allocator import memory_kept
from gentheory.training.loop import Plan, train

PLAIN, PRODUCTS = "plain PyTorch", "its products alone"
LEARNING_RATE, MOMENTUM = 0.01, 0.9


@dataclass(frozen=True)
class Work:
    """What one process does in a run."""

    net: str
    models: int
    epochs: int
    batch: int
    stack: int
    """Models that are trained at once."""

    def steps(self, count: int) -> int:
        """Of one model on so many examples."""
        return self.epochs * -(-count // self.batch)

    def flops(self, problem: Problem, processes: int) -> float:
        """Of all processes: forwards and backwards on batches, forwards for the losses."""
        macs, count = [layer.macs for layer in flops.layers(problem)], len(problem.x)
        one = self.epochs * (3 * sum(macs) - macs[0]) + (self.epochs + 1) * sum(macs)
        return 2.0 * processes * self.models * count * one


@dataclass(frozen=True)
class Start:
    """What a process has before the first run."""

    work: Work
    data: Split
    initial: Tensor  # [M, P]
    sizes: list[tuple[int, int]]
    """Inputs and outputs of the linear layers."""

    def orders(self) -> list[torch.Generator]:
        """Of the examples, the same for every contestant."""
        return [torch.Generator().manual_seed(m) for m in range(self.work.models)]


def stack(start: Start) -> Tensor:
    """Trained `work.stack` at once."""
    work, orders, found = start.work, start.orders(), list[Tensor]()
    module = build(work.net).to(start.initial.device)
    for initial in start.initial.split(work.stack):
        settings = (torch.full((len(initial),), v) for v in (LEARNING_RATE, MOMENTUM, 0.0))
        plan, own = Plan(work.epochs, work.batch, *settings), orders[: len(initial)]
        orders = orders[len(initial) :]
        trained = train(module, losses.cross_entropy, initial, start.data, plan, own)
        found.append(trained.theta.cpu())
    return torch.cat(found)


def one_by_one(start: Start) -> Tensor:
    """Trained by `torch.optim`."""
    model, (x, y) = build(start.work.net).to(start.initial.device), _examples(start)
    found: list[Tensor] = []
    for initial, order in zip(start.initial, start.orders(), strict=True):
        load_flat(model, initial)
        optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM)
        curve = [_loss(model, x, y)]
        for _ in range(start.work.epochs):
            for index in torch.randperm(len(x), generator=order).split(start.work.batch):
                optimizer.zero_grad()
                F.cross_entropy(model(x[index]), y[index]).backward()
                optimizer.step()
            curve.append(_loss(model, x, y))
        found.append(flatten(model).cpu())
    return torch.stack(found)


def products(start: Start) -> Tensor:
    """Batched matrix products as `stack` has them; there is no answer."""
    work, count = start.work, len(start.data)
    for batch, backwards, times in (
        (work.batch, True, work.steps(count)),
        (work.batch, False, (work.epochs + 1) * -(-count // work.batch)),
    ):
        jobs = list(_operands(start, batch))
        for _ in range(times * work.models // work.stack):
            for layer, (weight, inputs, outputs) in enumerate(jobs):
                weight @ inputs
                if backwards:
                    outputs @ inputs.mT
                if backwards and layer > 0:
                    weight.mT @ outputs
    return torch.empty(0)


def _operands(start: Start, batch: int):
    models = start.work.stack
    for incoming, outgoing in start.sizes:
        shapes = ((outgoing, incoming), (incoming, batch), (outgoing, batch))
        yield tuple(torch.ones(models, *shape, device=start.initial.device) for shape in shapes)


def _examples(start: Start) -> tuple[Tensor, Tensor]:
    return start.data.inputs, start.data.targets


def _loss(model: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return F.cross_entropy(model(x), y).item()


def prepare(problem: Problem, *, work: Work, contestant: Callable[[Start], Tensor]) -> Job:
    """As many processes as threads, each with its part of the models; stopped with this one."""
    context, base = multiprocessing.get_context("spawn"), flatten(build(work.net))
    sizes = [(layer.incoming, layer.outgoing) for layer in flops.layers(problem)]
    x, y = problem.x.cpu().numpy(), problem.y.cpu().numpy()
    pools: list[Any] = []
    for process in range(torch.get_num_threads()):
        noise = torch.Generator().manual_seed(process)
        initial = base * (1 + 0.1 * torch.randn(work.models, len(base), generator=noise))
        given = (work, x, y, initial.numpy(), sizes, str(problem.device))
        pools.append(context.Pool(1, _begin, given))

    def run() -> list[Tensor]:
        waiting = [pool.apply_async(_answer, (contestant.__name__,)) for pool in pools]
        return [torch.from_numpy(result.get()) for result in waiting]

    return Job(run, torch.cat)


_started: list[Start] = []
"""Of this process."""


def _begin(work: Work, x: Any, y: Any, initial: Any, sizes: list[tuple[int, int]], to: str) -> None:
    torch.set_num_threads(1)
    inputs, targets, theta = (torch.from_numpy(array).to(to) for array in (x, y, initial))
    _started.append(Start(work, Split(inputs, targets, 10, "benchmark"), theta, sizes))


def _answer(contestant: str) -> Any:
    with memory_kept():
        return globals()[contestant](_started[0]).numpy()


def difference(found: Tensor, expected: Tensor) -> float:
    """Relative; 0 for the products, which have no answer."""
    return relative(found, expected) if len(found) else 0.0


def _comparison(work: Work, examples: int, *, target: float, dense: bool) -> Comparison:
    contestants = {OURS: partial(prepare, work=work, contestant=stack)}
    contestants[PLAIN] = partial(prepare, work=work, contestant=one_by_one)
    if dense:
        contestants[PRODUCTS] = partial(prepare, work=work, contestant=products)
    return Comparison(
        work=f"training, {work.models} models a process, {work.stack} at once, "
        f"{work.epochs} x {examples} examples",
        net=work.net,
        contestants=contestants,
        target=target,
        targets={PRODUCTS: 0.6} if dense else {},
        difference=difference,
        tolerance=1e-3,
        flops=lambda problem: work.flops(problem, torch.get_num_threads()),
        examples=examples,
        apart=True,
        notes={
            PLAIN: "one process a thread; torch.optim.SGD, data in memory, no loader",
            PRODUCTS: "batched as in the stack, without anything else: the least share of their "
            "rate that is asked for is 0.6",
        },
    )


COMPARISONS = [
    _comparison(Work("tiny", 64, 1, 32, stack=64), 1000, target=1.7, dense=True),
    _comparison(Work("middle", 16, 3, 128, stack=8), 2000, target=1.7, dense=True),
    _comparison(Work("small", 16, 3, 128, stack=16), 2000, target=1.7, dense=True),
    _comparison(Work("cnn", 8, 1, 32, stack=8), 500, target=1.0, dense=False),
]
