"""Learning-rate time as optimizers step."""

import gc

import pytest
import torch
from torch import nn
from torch.optim import optimizer as optimizers

from gentheory.errors import InputError
from gentheory.pruning.learning_time import LearningTime


def stepped(optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()


@pytest.mark.parametrize(
    ("kind", "options", "rate"),
    [
        (torch.optim.SGD, {"lr": 0.1}, 0.1),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, 1.0),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, 0.5),
        (torch.optim.SGD, {"lr": torch.tensor(0.25), "momentum": 0.5}, 0.5),
        (torch.optim.Adam, {"lr": 0.1}, 0.1),
        (torch.optim.AdamW, {"lr": 0.2}, 0.2),
    ],
)
def test_a_step_takes(kind: type, options: dict, rate: float):
    model, seen = nn.Linear(3, 2), LearningTime()
    optimizer = kind(model.parameters(), **options)
    assert seen.of_model(model) is None
    assert seen.of(optimizer) == 0.0
    stepped(optimizer, 7)
    assert seen.of(optimizer) == pytest.approx(7 * rate)
    assert seen.of_model(model) == pytest.approx(7 * rate)


def test_schedules_are_seen():
    model, seen = nn.Linear(3, 2), LearningTime()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for _ in range(3):
        stepped(optimizer, 2)
        schedule.step()
    assert seen.of(optimizer) == pytest.approx(2 * (1 + 0.5 + 0.25))


def test_groups_count_by_their_parameters():
    model, seen = nn.Linear(3, 2), LearningTime()
    groups = [{"params": [model.weight], "lr": 0.4}, {"params": [model.bias], "lr": 0.8}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    stepped(optimizer, 1)
    assert seen.of_model(model) == pytest.approx((6 * 0.4 + 2 * 0.8) / 8)


def test_models_are_told_apart_and_two_optimizers_of_one_are_refused():
    models, seen = [nn.Linear(3, 2), nn.Linear(3, 2)], LearningTime()
    own = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    for count, optimizer in enumerate(own, start=1):
        stepped(optimizer, count)
    assert [seen.of_model(model) for model in models] == [pytest.approx(0.1), pytest.approx(0.2)]
    second = torch.optim.SGD(models[0].parameters(), lr=0.1)
    stepped(second, 3)
    with pytest.raises(InputError, match="found 2 optimizers that step the model's parameters"):
        seen.of_model(models[0])
    assert seen.of(second) == pytest.approx(0.3)


def test_optimizers_are_not_kept_alive():
    model, seen = nn.Linear(3, 2), LearningTime()
    stepped(torch.optim.SGD(model.parameters(), lr=0.1), 1)
    gc.collect()
    assert seen.of_model(model) is None


def test_the_hook_ends_with_its_owner():
    gc.collect()
    before = len(optimizers._global_optimizer_post_hooks)
    seen = LearningTime()
    assert len(optimizers._global_optimizer_post_hooks) == before + 1
    del seen
    gc.collect()
    assert len(optimizers._global_optimizer_post_hooks) == before
