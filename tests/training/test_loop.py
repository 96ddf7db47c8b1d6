"""Stacked training: each model as if it were alone, and as PyTorch itself would train it."""

import math

import pytest
import torch
from torch import nn

from gentheory import losses, models
from gentheory.data import Split, gaussian_classes
from gentheory.params import Layout, flatten, load_flat
from gentheory.training.loop import Plan, Trained, train

SHAPE, CLASSES, COUNT = (5,), 3, 23


@pytest.fixture(scope="module")
def data() -> Split:
    options = {"num_features": 5, "num_classes": CLASSES, "separation": 2.0, "seed": 0}
    return gaussian_classes(num_train=COUNT, num_test=10, **options)[0]


def module(seed: int = 0) -> nn.Module:
    options = {"depth": 3, "width": 4, "skip": True}
    return models.build("mlp", shape=SHAPE, num_classes=CLASSES, seed=seed, options=options)


def starts(count: int) -> torch.Tensor:
    return torch.stack([flatten(module(seed)) for seed in range(count)]).double()


def orders(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 + seed) for seed in seeds]


def plan_of(rates: list[float], **changes: object) -> Plan:
    count = len(rates)
    settings = {
        "epochs": 5,
        "batch_size": 4,
        "learning_rate": torch.tensor(rates, dtype=torch.float64),
        "momentum": torch.linspace(0.0, 0.9, count, dtype=torch.float64),
        "weight_decay": torch.linspace(0.0, 0.1, count, dtype=torch.float64),
    }
    return Plan(**(settings | changes))  # type: ignore[arg-type]


def run(data: Split, plan: Plan, theta: torch.Tensor, seeds: list[int]) -> Trained:
    return train(module(), losses.cross_entropy, theta, data, plan, orders(seeds))


def only(plan: Plan, m: int) -> Plan:
    """The plan of model m alone."""
    own = {n: getattr(plan, n)[m : m + 1] for n in ("learning_rate", "momentum", "weight_decay")}
    shared = ("epochs", "batch_size", "schedule", "stop_at_loss")
    return Plan(**own, **{name: getattr(plan, name) for name in shared})


def by_torch(data: Split, plan: Plan, m: int) -> tuple[torch.Tensor, list[float]]:
    """Model m trained by torch.optim.SGD, batch by batch: weights, and loss after each epoch."""
    net = module(m).double()
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=float(plan.learning_rate[m]),
        momentum=float(plan.momentum[m]),
        weight_decay=float(plan.weight_decay[m]),
    )
    order, inputs, step = orders([m])[0], data.inputs.double(), 0
    total, curve = plan.epochs * math.ceil(len(data) / plan.batch_size), []
    for _ in range(plan.epochs):
        for index in torch.randperm(len(data), generator=order).split(plan.batch_size):
            if plan.schedule == "cosine":
                factor = (1 + math.cos(math.pi * step / total)) / 2
                optimizer.param_groups[0]["lr"] = float(plan.learning_rate[m]) * factor
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[index]), data.targets[index]).backward()
            optimizer.step()
            step += 1
        with torch.no_grad():
            curve.append(float(nn.functional.cross_entropy(net(inputs), data.targets)))
    return flatten(net), curve


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_every_model_of_a_stack_goes_the_way_of_torch_sgd(data, schedule):
    plan = plan_of([0.01, 0.05, 0.2], schedule=schedule)
    trained = run(data, plan, starts(3), [0, 1, 2])
    for m in range(3):
        theta, curve = by_torch(data, plan, m)
        torch.testing.assert_close(trained.theta[m], theta, rtol=0, atol=1e-10)
        assert trained.curve[1:, m].tolist() == pytest.approx(curve, abs=1e-10)
    assert trained.outcomes == ("finished",) * 3


def test_a_stack_gives_what_each_model_gives_alone(data):
    # One that diverges, one that reaches its target early, and two that run to the end.
    plan = plan_of([0.02, 1e4, 0.3, 0.001], epochs=12, stop_at_loss=0.62)
    together = run(data, plan, starts(4), [0, 1, 2, 3])
    assert set(together.outcomes) == {"finished", "diverged", "target"}
    for m in range(4):
        alone = run(data, only(plan, m), starts(4)[m : m + 1], [m])
        torch.testing.assert_close(together.theta[m], alone.theta[0], rtol=0, atol=1e-10)
        assert together.outcomes[m] == alone.outcomes[0]
        assert together.steps[m] == alone.steps[0]
        torch.testing.assert_close(together.training_time[m], alone.training_time[0])
        torch.testing.assert_close(
            together.curve[:, m], alone.curve[:, 0], rtol=0, atol=1e-10, equal_nan=True
        )


def test_a_diverged_model_keeps_its_last_good_parameters(data):
    trained = run(data, plan_of([1e6], epochs=3), starts(1), [0])
    assert trained.outcomes == ("diverged",)
    assert torch.equal(trained.theta, starts(1))
    assert trained.curve[1:].isnan().all()
    assert trained.steps.tolist() == [6]


def test_a_model_that_starts_as_nan_leaves_its_stack_unharmed(data):
    theta = starts(2)
    theta[0] = math.nan
    trained = run(data, plan_of([0.1, 0.1]), theta, [0, 1])
    assert trained.outcomes == ("diverged", "finished")
    alone = run(data, only(plan_of([0.1, 0.1]), 1), starts(2)[1:], [1])
    torch.testing.assert_close(trained.theta[1], alone.theta[0], rtol=0, atol=1e-10)


def test_reaching_the_target_ends_training_there(data):
    whole = run(data, plan_of([0.2], epochs=12), starts(1), [0]).curve[:, 0]
    target = float(whole[5])
    first = next(epoch for epoch in range(1, 13) if whole[epoch] <= target)
    stopped = run(data, plan_of([0.2], epochs=12, stop_at_loss=target), starts(1), [0])
    assert stopped.outcomes == ("target",)
    assert stopped.steps.tolist() == [6 * first]
    assert stopped.curve[first + 1 :].isnan().all()
    torch.testing.assert_close(stopped.curve[: first + 1, 0], whole[: first + 1])


def test_training_time_by_hand(data):
    plan = plan_of([0.1, 0.2], epochs=2, momentum=torch.tensor([0.0, 0.5]))
    constant = run(data, plan, starts(2), [0, 1])
    assert constant.training_time.tolist() == pytest.approx([12 * 0.1, 12 * 0.4])
    plan = plan_of([0.1], epochs=2, schedule="cosine")
    factors = [(1 + math.cos(math.pi * k / 12)) / 2 for k in range(12)]
    assert run(data, plan, starts(1), [0]).training_time.item() == pytest.approx(0.1 * sum(factors))


def test_the_batch_order_is_that_of_the_generator_alone(data):
    torch.manual_seed(0)
    first = run(data, plan_of([0.1]), starts(1), [0])
    torch.manual_seed(1)
    assert torch.equal(first.theta, run(data, plan_of([0.1]), starts(1), [0]).theta)
    assert not torch.equal(first.theta, run(data, plan_of([0.1]), starts(1), [1]).theta)


def test_progress_is_told_after_each_epoch(data):
    told: list[float] = []
    train(
        module(),
        losses.cross_entropy,
        starts(1),
        data,
        plan_of([0.1]),
        orders([0]),
        progress=told.append,
    )
    assert told == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_the_template_module_is_left_alone(data):
    net = module()
    before = flatten(net)
    theta = starts(2)
    train(net, losses.cross_entropy, theta, data, plan_of([0.1, 0.1]), orders([0, 1]))
    assert torch.equal(flatten(net), before)
    assert torch.equal(theta, starts(2))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_trained_weights_go_back_into_a_module(data):
    trained = run(data, plan_of([0.1]), starts(1), [0])
    net = module().double()
    load_flat(net, trained.theta[0])
    loss = nn.functional.cross_entropy(net(data.inputs.double()), data.targets)
    assert loss.item() == pytest.approx(float(trained.curve[-1, 0]), abs=1e-12)
    assert Layout.of(net).size == trained.theta.shape[1]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_trains_to_the_same_weights(data):
    plan = plan_of([0.02, 0.1])
    there = Split(data.inputs.cuda(), data.targets.cuda(), data.num_classes, data.name)
    loss, theta = losses.cross_entropy, starts(2).cuda()
    on_gpu = train(module().cuda(), loss, theta, there, plan, orders([0, 1]))
    on_cpu = run(data, plan, starts(2), [0, 1])
    torch.testing.assert_close(on_gpu.theta.cpu(), on_cpu.theta, rtol=0, atol=1e-9)
