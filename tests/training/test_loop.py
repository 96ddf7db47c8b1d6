"""Stacks train as torch's own optimizer trains each model, and nobody disturbs a neighbour."""

import math

import pytest
import torch
from cases import CASES, smoothed
from oracle import relative_error
from torch import Tensor, nn
from torch.nn import functional as F
from training_loops import CE, NET, by_torch, plan, run, split, starts

from gentheory import losses, models
from gentheory.data.split import Split
from gentheory.params import flatten, load_flat
from gentheory.seeds import generator
from gentheory.training.loop import Plan, train
from gentheory.training.stack import DIVERGED_ABOVE


def only(chosen: Plan, m: int) -> Plan:
    return Plan(
        chosen.epochs,
        chosen.batch_size,
        chosen.learning_rate[m : m + 1],
        chosen.momentum[m : m + 1],
        chosen.weight_decay[m : m + 1],
        chosen.schedule,
        chosen.stop_at_loss,
    )


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_parity_with_torch_optim(schedule: str):
    theta, chosen = starts(3), plan([0.3, 0.05, 0.1], schedule=schedule)
    trained = run(theta, chosen)
    for m in range(3):
        way = by_torch(theta[m], chosen, m)
        assert relative_error(trained.theta[m], way.ends[-1]) < 1e-10
        assert trained.curve[:, m].tolist() == pytest.approx(way.curve, rel=1e-10)
        time = sum(way.rates) / (1 - float(chosen.momentum[m].double()))
        assert trained.training_time[m].item() == pytest.approx(time, rel=1e-12)
    assert trained.outcomes == ("finished",) * 3
    assert trained.steps.tolist() == [12, 12, 12]


def test_training_time_by_hand():
    settings = torch.tensor([0.2, 0.5, 0.0], dtype=torch.float64).split(1)
    chosen = Plan(2, 10, *settings)
    # 2 epochs of 3 batches at 0.2 / (1 - 0.5)
    assert run(starts(1), chosen).training_time.tolist() == [pytest.approx(6 * 0.4, rel=1e-14)]
    chosen = Plan(1, 11, *settings, "cosine")
    # two steps: factors 1 and (1 + cos(π/2)) / 2
    assert run(starts(1), chosen).training_time.tolist() == [pytest.approx(1.5 * 0.4, rel=1e-14)]


def test_a_stack_is_as_good_as_its_models():
    """Mixed rates; one diverges, one reaches its target and leaves."""
    theta, chosen = starts(4), plan([0.3, 1e6, 0.01, 0.5], epochs=12, stop_at_loss=0.6)
    together = run(theta, chosen)
    assert together.outcomes[1] == "diverged"
    assert "target" in together.outcomes
    assert "finished" in together.outcomes
    for m in range(4):
        alone = run(theta[m : m + 1], only(chosen, m), first=m)
        assert alone.outcomes == together.outcomes[m : m + 1]
        assert alone.steps == together.steps[m]
        assert relative_error(together.theta[m], alone.theta[0]) < 1e-10
        assert torch.allclose(together.curve[:, m], alone.curve[:, 0], rtol=1e-10, equal_nan=True)
        assert together.training_time[m] == alone.training_time[0]


def test_a_model_stops_at_its_target():
    theta, target = starts(1), 0.6
    trained = run(theta, plan([0.5], epochs=30, stop_at_loss=target))
    seen = trained.curve[:, 0]
    epochs = int(seen.isfinite().sum()) - 1
    assert trained.outcomes == ("target",)
    assert 1 <= epochs < 30
    assert seen[epochs] <= target < seen[epochs - 1]
    assert seen[epochs + 1 :].isnan().all()
    assert trained.steps.tolist() == [3 * epochs]
    short = run(theta, plan([0.5], epochs=epochs))
    assert torch.equal(trained.theta, short.theta)


def test_a_diverged_model_stays_at_its_last_good_epoch():
    theta = starts(2)
    trained = run(theta, plan([1e5, 0.1], epochs=3))
    assert trained.outcomes == ("diverged", "finished")
    assert torch.equal(trained.theta[0], theta[0])
    assert trained.curve[1:, 0].isnan().all()
    assert trained.curve[:, 1].isfinite().all()
    assert trained.steps.tolist() == [3, 9]


def test_a_loss_far_above_the_first_one_has_diverged():
    """Finite, yet more than so many times the first: a large but useless step."""
    trained = run(starts(1), plan([1e3], epochs=1, weight_decay=torch.zeros(1)))
    way = by_torch(trained.theta[0], plan([1e3], epochs=1, weight_decay=torch.zeros(1)), 0)
    loss = way.curve[-1]
    assert math.isfinite(loss)
    assert loss > DIVERGED_ABOVE * trained.curve[0, 0]
    assert trained.outcomes == ("diverged",)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_poisoned_model_leaves_the_others_unharmed(poison: float):
    theta = starts(3)
    sick = theta.clone()
    sick[1, 4] = poison
    chosen = plan([0.1, 0.1, 0.1])
    healthy, trained = run(theta, chosen), run(sick, chosen)
    assert trained.outcomes == ("finished", "diverged", "finished")
    for m in (0, 2):
        assert torch.equal(trained.theta[m], healthy.theta[m])
        assert torch.equal(trained.curve[:, m], healthy.curve[:, m])


def test_a_loss_that_starts_infinite_has_diverged():
    theta = 1e7 * starts(1).float()  # squares that float32 cannot hold
    trained = train(NET, losses.mse, theta, split(), plan([0.0]), [generator("order", 0)])
    assert trained.curve[0].tolist() == [math.inf]
    assert trained.outcomes == ("diverged",)


def test_trap_17_parameters_that_are_not_finite_have_diverged_even_where_nobody_looks():
    net = CASES["unused"].module
    theta = flatten(net).repeat(2, 1)
    theta[0, 0] = math.nan  # of the layer that is never called
    orders = [generator("order", m) for m in range(2)]
    trained = train(net, CE, theta, split(), plan([0.1, 0.1]), orders)
    assert trained.curve[0].isfinite().all()
    assert trained.outcomes == ("diverged", "finished")


def test_the_orders_alone_are_random():
    theta, chosen = starts(2), plan([0.1, 0.1])
    state = torch.get_rng_state()
    first, again = run(theta, chosen), run(theta, chosen)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.theta, again.theta)
    assert not torch.equal(run(theta, chosen, first=7).theta, first.theta)


def test_the_arguments_are_left_alone():
    theta, data = starts(2), split()
    before, own = theta.clone(), flatten(NET)
    run(theta, plan([0.1, 0.2]), data=data)
    assert torch.equal(theta, before)
    assert torch.equal(flatten(NET), own)
    assert torch.equal(data.inputs, split().inputs)


def test_progress_is_the_share_of_epochs():
    seen: list[float] = []
    orders = [generator("order", 0)]
    train(NET, CE, starts(1), split(), plan([0.1]), orders, progress=seen.append)
    assert seen == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("loss", [losses.mse, losses.resolve(smoothed)])
def test_other_losses_go_down_too(loss: losses.Loss):
    trained = train(NET, loss, starts(1), split(), plan([0.1], epochs=8), [generator("order", 0)])
    assert trained.curve[-1, 0] < 0.9 * trained.curve[0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_of_the_parameters_is_kept(dtype: torch.dtype):
    trained = run(starts(2).to(dtype), plan([0.1, 0.2]))
    assert (trained.theta.dtype, trained.curve.dtype) == (dtype, torch.float64)
    reference = run(starts(2), plan([0.1, 0.2]))
    assert relative_error(trained.theta, reference.theta) < 1e-4


def test_convolutions_and_tied_weights_train_as_stacks():
    for net in (models.build("cnn", shape=(1, 6, 6), num_classes=3, seed=0), Tied()):
        data = Split(torch.randn(6, 1, 6, 6, generator=generator(1)), torch.arange(6) % 3, 3, "x")
        theta = flatten(net).double().repeat(2, 1)
        chosen = Plan(2, 4, torch.tensor([0.1, 0.2]), torch.zeros(2), torch.zeros(2))
        trained = train(net.double(), CE, theta, data, chosen, [generator(m) for m in range(2)])
        order = generator(1)
        load_flat(net, theta[1])
        optimizer = torch.optim.SGD(net.parameters(), lr=float(torch.tensor(0.2)))
        for _ in range(2):
            for index in torch.randperm(6, generator=order).split(4):
                optimizer.zero_grad()
                F.cross_entropy(net(data.inputs[index].double()), data.targets[index]).backward()
                optimizer.step()
        assert relative_error(trained.theta[1], flatten(net)) < 1e-10


class Tied(nn.Module):
    """Trap 15 in training: one weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(36, 36), nn.Linear(36, 36), nn.Linear(36, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x.flatten(1)).tanh()).tanh())
