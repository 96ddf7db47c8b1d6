"""Class weights and two weight decays against loops over one plain torch module."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracle import relative_error
from torch import Tensor, nn
from torch.nn import functional as F
from training_loops import BATCH, CE, N, alone, plan, run, split, starts

from gentheory.errors import InputError
from gentheory.params import flatten
from gentheory.seeds import generator
from gentheory.training.loop import Plan
from gentheory.training.reweighting import class_weights, objective, weighted

TARGETS = torch.tensor([0] * 6 + [1] * 3 + [3])


def test_weights_are_the_inverse_effective_numbers_with_mean_one() -> None:
    weights = class_weights(TARGETS, 4, 0.9)
    raw = torch.tensor([0.1 / (1 - 0.9**n) if n else 0.0 for n in (6, 3, 0, 1)]).double()
    assert torch.allclose(weights / weights[0], raw / raw[0])
    assert weights[TARGETS].mean() == pytest.approx(1)


def test_weights_go_from_equal_to_inverse_frequencies() -> None:
    inverse = class_weights(TARGETS, 4, 1.0)
    assert torch.allclose(inverse * torch.tensor([6.0, 3.0, 0.0, 1.0]), inverse[3] * (inverse > 0))
    near = class_weights(TARGETS, 4, 1 - 1e-14)
    assert torch.allclose(near, inverse, rtol=1e-6)
    nearly_none = class_weights(TARGETS, 4, 1e-9)
    assert torch.allclose(nearly_none[[0, 1, 3]], torch.ones(3).double())


def test_real_targets_have_no_class_weights() -> None:
    with pytest.raises(InputError, match=r"class_balance: found targets of torch.float32"):
        class_weights(torch.zeros(3), 1, 0.9)


def test_the_objective_is_a_weighted_mean() -> None:
    outputs = torch.randn(10, 4, generator=generator("outputs"), dtype=torch.float64)
    weights = class_weights(TARGETS, 4, 0.99)
    value = objective(CE)(outputs, weighted(TARGETS, weights))
    # torch divides by the weights of the batch, which are ten here.
    assert torch.allclose(value, F.cross_entropy(outputs, TARGETS, weight=weights))
    assert torch.allclose(
        objective(CE)(outputs, weighted(TARGETS, None)), CE.mean(outputs, TARGETS)
    )


def test_steps_are_weighted_once_the_weights_set_in() -> None:
    theta, chosen = starts(2), plan([0.1, 0.2], class_balance=0.95, balance_after=2)
    trained, data = run(theta, chosen), split()
    weights = class_weights(data.targets, 3, 0.95)

    def loss(outputs: Tensor, targets: Tensor, epoch: int) -> Tensor:
        own = weights[targets] if epoch > 2 else torch.ones(len(targets))
        return (own * F.cross_entropy(outputs, targets, reduction="none")).mean()

    for m in range(2):
        net = alone(theta[m])
        optimizer = torch.optim.SGD(net.parameters(), **of_model(chosen, m))
        by_hand(net, optimizer, chosen, m, loss)
        assert relative_error(trained.theta[m], flatten(net)) < 1e-10
        x, y = data.inputs.double(), data.targets
        assert float(trained.curve[-1, m]) == pytest.approx(F.cross_entropy(net(x), y).item())


OPTIMIZERS: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_classifier_decays_on_its_own(name: str) -> None:
    theta = starts(2)
    momentum = {} if name in ("sgd", "rmsprop") else {"momentum": torch.zeros(2).double()}
    decays = torch.tensor([0.3, 0.02], dtype=torch.float64)
    chosen = plan([0.01, 0.02], optimizer=name, classifier_decay=decays, **momentum)
    trained = run(theta, chosen)
    for m in range(2):
        net = alone(theta[m])
        *_, last = (part for part in net.modules() if isinstance(part, nn.Linear))
        own = {id(tensor) for tensor in last.parameters()}
        features = [tensor for tensor in net.parameters() if id(tensor) not in own]
        settings = of_model(chosen, m)
        if momentum:
            del settings["momentum"]
        groups = [
            {"params": features},
            {"params": list(last.parameters()), "weight_decay": float(decays[m])},
        ]
        optimizer = OPTIMIZERS[name](groups, **settings)
        by_hand(net, optimizer, chosen, m, lambda out, y, _: F.cross_entropy(out, y))
        assert relative_error(trained.theta[m], flatten(net)) < 1e-8


def of_model(chosen: Plan, m: int) -> dict[str, float]:
    return {
        "lr": float(chosen.learning_rate[m]),
        "momentum": float(chosen.momentum[m]),
        "weight_decay": float(chosen.weight_decay[m]),
    }


def by_hand(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    chosen: Plan,
    m: int,
    loss: Callable[[Tensor, Tensor, int], Tensor],
) -> None:
    data, order = split(), generator("order", m)
    x, y = data.inputs.double(), data.targets
    for epoch in range(1, chosen.epochs + 1):
        for index in torch.randperm(N, generator=order).split(BATCH):
            optimizer.zero_grad()
            loss(net(x[index]), y[index], epoch).backward()
            optimizer.step()
