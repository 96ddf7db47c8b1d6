"""Models of one stack that are trained on examples of their own, each as if alone."""

from dataclasses import replace

import pytest
import torch
from cases import CASES
from oracle import relative_error
from torch import Tensor, nn

from gentheory import losses
from gentheory.data.split import Split
from gentheory.params import flatten
from gentheory.seeds import generator
from gentheory.training import evaluate
from gentheory.training.evaluate import example_losses, stacked_outputs
from gentheory.training.loop import Plan, Trained, train

N = 20
NET = CASES["mlp"].module
CE = losses.cross_entropy
ROWS = torch.stack([torch.randperm(N, generator=generator("rows", m))[:14] for m in range(3)])
RATES = torch.tensor([0.3, 0.05, 0.1], dtype=torch.float64)
PLAN = Plan(
    6, 4, RATES, torch.tensor([0.0, 0.9, 0.5]), torch.full((3,), 1e-2), keep_trajectory=True
)


def split() -> Split:
    x = torch.randn(N, 5, generator=generator("own rows"))
    return Split(x, x[:, :3].argmax(1), 3, "train")


def starts() -> Tensor:
    noise = torch.randn(3, 100, generator=generator("starts"), dtype=torch.float64)
    return flatten(NET) + 0.1 * noise


def only(m: int, plan: Plan) -> Plan:
    columns = {
        name: getattr(plan, name)[m : m + 1]
        for name in ("learning_rate", "momentum", "weight_decay")
    }
    return replace(plan, **columns)


def run(data: Split, plan: Plan = PLAN) -> Trained:
    orders = [generator("order", m) for m in range(3)]
    return train(NET, CE, starts(), data, plan, orders, rows=ROWS)


def alone(m: int, plan: Plan) -> Trained:
    """Model m on a data set that holds its own examples and no others."""
    own, orders = split().take(ROWS[m]), [generator("order", m)]
    return train(NET, CE, starts()[m : m + 1], own, only(m, plan), orders)


@pytest.mark.parametrize("target", [None, 0.8])
def test_a_model_with_rows_is_the_model_trained_alone_on_them(target: float | None):
    plan = replace(PLAN, stop_at_loss=target)
    together = run(split(), plan)
    assert (set(together.outcomes) == {"finished"}) is (target is None)
    for m in range(3):
        single = alone(m, plan)
        assert single.outcomes == together.outcomes[m : m + 1]
        assert single.steps == together.steps[m]
        assert relative_error(together.theta[m], single.theta[0]) < 1e-12
        assert torch.allclose(together.curve[:, m], single.curve[:, 0], rtol=1e-12, equal_nan=True)
        assert together.trajectory is not None
        assert single.trajectory is not None
        for name, own in single.trajectory[0].tensors().items():
            found = together.trajectory[m].tensors()[name]
            assert torch.allclose(found, own, rtol=1e-10, atol=1e-12, equal_nan=True), name


def test_what_is_held_out_never_enters_the_training():
    for m in range(3):
        data, held = split(), torch.ones(N, dtype=torch.bool)
        held[ROWS[m]] = False
        poisoned = data.inputs.clone()
        poisoned[held] = 1e30
        sick = run(Split(poisoned, data.targets, 3, "poisoned"))
        healthy = run(data)
        assert torch.equal(sick.theta[m], healthy.theta[m])
        assert torch.equal(sick.curve[:, m], healthy.curve[:, m])
        assert sick.trajectory is not None
        assert healthy.trajectory is not None
        one, other = (run.trajectory[m].tensors() for run in (sick, healthy))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_all_rows_in_order_change_nothing():
    orders = [generator("order", m) for m in range(3)]
    plain = train(NET, CE, starts(), split(), PLAN, orders)
    orders = [generator("order", m) for m in range(3)]
    every = torch.arange(N).expand(3, -1)
    own = train(NET, CE, starts(), split(), PLAN, orders, rows=every)
    assert relative_error(own.theta, plain.theta) < 1e-12
    assert own.trajectory is not None
    assert plain.trajectory is not None
    assert relative_error(own.trajectory.residuals, plain.trajectory.residuals) < 1e-12


@pytest.mark.parametrize("numbers", [1, 3 * 5 * 4, 10**6])
def test_outputs_at_rows_are_those_at_all_examples(monkeypatch: pytest.MonkeyPatch, numbers: int):
    monkeypatch.setattr(evaluate, "_ACTIVATIONS", numbers)
    data, theta = split(), starts()
    whole, _ = example_losses(NET, CE, theta, data.inputs, data.targets)
    some, _ = example_losses(NET, CE, theta, data.inputs, data.targets, ROWS)
    assert relative_error(some, whole.gather(1, ROWS)) < 1e-13
    chunks = list(stacked_outputs(NET, theta, data.inputs, data.targets, ROWS))
    targets = torch.cat([y for _, y in chunks], dim=1)
    assert torch.equal(targets, data.targets[ROWS])
    assert (len(chunks) > 1) is (numbers < 10**6)


def test_trap_16_a_first_layer_that_works_in_place_leaves_the_data_alone():
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 3))
    data, theta = split(), flatten(net).repeat(2, 1)
    assert theta.dtype == data.inputs.dtype  # no conversion makes a copy
    before = data.inputs.clone()
    assert before.min() < 0
    example_losses(net, CE, theta, data.inputs, data.targets)
    settings = torch.full((2,), 0.1)
    orders = [generator("order", m) for m in range(2)]
    train(net, CE, theta, data, Plan(1, 8, settings, settings, settings), orders)
    assert torch.equal(data.inputs, before)
