"""Running statistics of BatchNorm in a stack: each model's own, as torch keeps them alone."""

import math
from typing import Any

import pytest
import torch
from architectures import SHAPE, build, relative_error
from torch import Tensor, nn
from torch.nn import functional as F

from gentheory import losses
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.models.norm import BatchNorm, running_statistics, with_statistics
from gentheory.params import flatten
from gentheory.seeds import generator
from gentheory.training.evaluate import evaluate
from gentheory.training.loop import Plan, Trained, train

N, BATCH, EPOCHS = 10, 4, 2
RATES = torch.tensor([0.05, 0.02, 0.1], dtype=torch.float64)
OPTIONS: dict[str, Any] = {"width": 2, "norm": "batch"}


def split(name: str = "train") -> Split:
    stream = generator("batch norm", name)
    x = torch.randn(N, *SHAPE, generator=stream)
    return Split(x, torch.randint(3, (N,), generator=stream), 3, name)


def nets() -> list[nn.Module]:
    return [build("resnet", OPTIONS, seed) for seed in range(3)]


def run(module: nn.Module, theta: Tensor, rates: Tensor = RATES, first: int = 0) -> Trained:
    still = torch.zeros_like(rates)
    plan = Plan(EPOCHS, BATCH, rates, 0.5 + still, 0.01 + still, keep_trajectory=True)
    orders = [generator("order", first + m) for m in range(len(rates))]
    return train(module, losses.cross_entropy, theta, split(), plan, orders)


def by_torch(net: nn.Module, m: int) -> list[float]:
    """Trains the net with torch's own BatchNorm; the training losses in eval mode."""
    for path, part in list(net.named_modules()):
        if isinstance(part, BatchNorm):
            net.set_submodule(path, nn.BatchNorm2d(part.num_features).double())
    (x, y), order = (split().inputs.double(), split().targets), generator("order", m)
    optimizer = torch.optim.SGD(net.parameters(), float(RATES[m]), 0.5, weight_decay=0.01)
    curve = [F.cross_entropy(net.eval()(x), y).item()]
    for _ in range(EPOCHS):
        for index in torch.randperm(N, generator=order).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net.train()(x[index]), y[index]).backward()
            optimizer.step()
        curve.append(F.cross_entropy(net.eval()(x), y).item())
    return curve


def test_trap_1_a_stack_trains_as_torch_trains_each_model():
    modules = nets()
    trained = run(modules[0], torch.stack([flatten(net) for net in modules]))
    figures = evaluate(
        modules[0],
        losses.cross_entropy,
        trained.theta,
        split(),
        split("test"),
        statistics=trained.statistics,
    )
    for m, net in enumerate(modules):
        curve = by_torch(net, m)
        assert trained.curve[:, m].tolist() == pytest.approx(curve, rel=1e-9)
        assert relative_error(trained.theta[m], flatten(net)) < 1e-9
        expected = dict(net.named_buffers())
        assert set(expected) == set(trained.statistics)
        for name, buffer in expected.items():
            assert relative_error(trained.statistics[name][m], buffer) < 1e-9
        loss = F.cross_entropy(net(split("test").inputs.double()), split("test").targets)
        assert float(figures.test_loss[m]) == pytest.approx(loss.item(), rel=1e-9)
        assert float(figures.train_loss[m]) == pytest.approx(curve[-1], rel=1e-9)


def test_the_module_keeps_its_own_statistics_and_its_mode():
    modules = nets()
    before = {name: buffer.clone() for name, buffer in modules[0].named_buffers()}
    run(modules[0], torch.stack([flatten(net) for net in modules]))
    assert all(torch.equal(b, before[name]) for name, b in modules[0].named_buffers())
    assert all(part.training for part in modules[0].modules())


def test_a_diverged_model_keeps_the_statistics_of_its_last_good_epoch():
    modules = nets()
    theta = torch.stack([flatten(net) for net in modules])
    trained = run(modules[0], theta, torch.tensor([0.05, math.inf, 0.1]))
    assert trained.outcomes == ("finished", "diverged", "finished")
    start = running_statistics(modules[0])
    for name, found in trained.statistics.items():
        assert torch.equal(found[1], start[name])
        assert not torch.equal(found[0], start[name])
        assert found.isfinite().all()


def test_a_copy_with_statistics_leaves_the_module_alone():
    net = build("vgg", {"width": 2, "depth": 11, **OPTIONS})
    found = running_statistics(net)
    assert set(found) == {name for name, _ in net.named_buffers()}
    other = with_statistics(net, {name: buffer + 1 for name, buffer in found.items()})
    for name, buffer in other.named_buffers():
        assert torch.equal(buffer, found[name] + 1)
    assert with_statistics(net, {}) is net


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(2), nn.InstanceNorm2d(2, track_running_stats=True)]
)
def test_statistics_that_are_written_in_place_are_refused(norm: nn.Module):
    net = nn.Sequential(nn.Sequential(norm, nn.Flatten(), nn.Linear(128, 3))).double()
    theta = flatten(net)[None]
    with pytest.raises(InputError, match=rf"Sequential, '0.0': found {type(norm).__name__}, which"):
        run(net, theta, RATES[:1])
    assert run(net.eval(), theta, RATES[:1]).outcomes == ("finished",)


def test_one_number_a_channel_has_no_variance():
    norm = BatchNorm(3)
    with pytest.raises(InputError, match="BatchNorm: found one example of one pixel, expected two"):
        norm(torch.ones(1, 3, 1, 1))
    assert norm.eval()(torch.ones(1, 3, 1, 1)).shape == (1, 3, 1, 1)
