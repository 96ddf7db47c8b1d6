"""A stack's training once more: torch's own optimizer, one model, one batch at a time."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from cases import CASES
from torch import Tensor, nn
from torch.nn import functional as F

from gentheory import losses
from gentheory.data.split import Split
from gentheory.params import flatten, load_flat
from gentheory.seeds import generator
from gentheory.training.loop import Plan, Trained, train

N, BATCH = 22, 8  # the third batch of an epoch has 6 examples
NET = CASES["mlp"].module
CE = losses.cross_entropy


def split() -> Split:
    stream = generator("training data")
    x = torch.randn(N, 5, generator=stream)
    return Split(x, x[:, :3].argmax(1), 3, "train")


def starts(count: int) -> Tensor:
    noise = torch.randn(count, 100, generator=generator("starts"), dtype=torch.float64)
    return flatten(NET) + 0.1 * noise


def plan(rates: list[float], **changes: Any) -> Plan:
    count = len(rates)
    settings = {
        "epochs": 4,
        "batch_size": BATCH,
        "momentum": torch.linspace(0.0, 0.9, count),
        "weight_decay": torch.linspace(0.1, 0.0, count),
        **changes,
    }
    return Plan(learning_rate=torch.tensor(rates, dtype=torch.float64), **settings)


def run(
    theta: Tensor,
    chosen: Plan,
    *,
    first: int = 0,
    data: Split | None = None,
    loss: losses.Loss = CE,
) -> Trained:
    orders = [generator("order", first + m) for m in range(len(theta))]
    return train(NET, loss, theta, data or split(), chosen, orders)


def alone(theta: Tensor) -> nn.Module:
    """A net of its own with these parameters: the shared one stays as it is."""
    net = copy.deepcopy(NET)
    load_flat(net, theta)
    return net


@dataclass(frozen=True)
class Look:
    """What a step finds on its batch before it is made."""

    epoch: int  # from 1
    rate: float
    examples: list[int]
    outputs: Tensor


@dataclass
class Way:
    """All of one model's training."""

    curve: list[float]
    looks: list[Look] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)
    """Parameters after each epoch."""

    @property
    def rates(self) -> list[float]:
        return [look.rate for look in self.looks]


def by_torch(
    theta: Tensor,
    chosen: Plan,
    m: int,
    values: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Way:
    """torch.optim.SGD on the same batches; `values` is the mean loss."""
    net, data, order = alone(theta), split(), generator("order", m)
    x, y = data.inputs.double(), data.targets
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=float(chosen.learning_rate[m]),
        momentum=float(chosen.momentum[m]),
        weight_decay=float(chosen.weight_decay[m]),
    )
    total = chosen.epochs * math.ceil(N / BATCH)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    way = Way([values(net(x), y).item()])
    for epoch in range(1, chosen.epochs + 1):
        for index in torch.randperm(N, generator=order).split(BATCH):
            optimizer.zero_grad()
            outputs = net(x[index])
            values(outputs, y[index]).backward()
            rate = optimizer.param_groups[0]["lr"]
            way.looks.append(Look(epoch, rate, index.tolist(), outputs.detach()))
            optimizer.step()
            if chosen.schedule == "cosine":
                cosine.step()
        way.curve.append(values(net(x), y).item())
        way.ends.append(flatten(net).clone())
    return way
