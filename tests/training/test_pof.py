"""PoF against a loop over one plain torch module, and its line search on known functions."""

import math

import pytest
import torch
from oracle import relative_error
from torch import Tensor, nn
from torch.nn import functional as F
from training_loops import BATCH, CE, NET, N, alone, plan, split, starts

from gentheory import models
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.params import Layout, flatten
from gentheory.seeds import generator
from gentheory.training import pof
from gentheory.training.loop import Plan, Trained, train

EPOCHS, POF = 2, 7


def chosen(**changes: object) -> Plan:
    rates = torch.tensor([0.05, 0.1], dtype=torch.float64)
    settings: dict[str, object] = {"epochs": EPOCHS, "pof_epochs": POF, "pof_learning_rate": rates}
    return plan([0.1, 0.2], **{**settings, **changes})


def go(theta: Tensor, settings: Plan) -> Trained:
    orders = [generator("order", m) for m in range(len(theta))]
    return train(NET, CE, theta, split(), settings, orders)


def test_a_stack_goes_as_a_plain_loop_does():
    theta, settings = starts(2), chosen()
    trained = go(theta, settings)
    before = go(theta, plan([0.1, 0.2], epochs=EPOCHS))
    for m in range(2):
        expected = by_hand(before.theta[m], settings, m)
        assert relative_error(trained.theta[m], expected) < 1e-10
        assert relative_error(trained.theta[m], before.theta[m]) > 1e-3
    assert trained.steps.tolist() == [3 * (EPOCHS + POF)] * 2
    assert trained.curve.shape == (1 + EPOCHS + POF, 2)
    assert trained.curve.isfinite().all()
    momentum = settings.momentum.double()
    time = 3 * (EPOCHS * settings.learning_rate + POF * settings.pof_rate) / (1 - momentum)
    assert torch.allclose(trained.training_time, time, rtol=1e-12)


def by_hand(theta: Tensor, settings: Plan, m: int) -> Tensor:
    net = alone(theta)
    linear = [part for part in net.modules() if isinstance(part, nn.Linear)][-1]
    features = [p for p in net.parameters() if all(p is not own for own in linear.parameters())]
    optimizer = torch.optim.SGD(
        features,
        lr=float(settings.pof_rate[m]),
        momentum=float(settings.momentum[m]),
        weight_decay=float(settings.weight_decay[m]),
    )
    data, order = split(), generator("order", m)
    x, y = data.inputs.double(), data.targets
    for _ in range(EPOCHS):
        torch.randperm(N, generator=order)
    for _ in range(POF):
        batches = torch.randperm(N, generator=order).split(BATCH)
        independent = torch.randint(N, (len(batches), 256), generator=order)
        shares = torch.rand(len(batches), generator=order, dtype=torch.float64)
        for index, other, share in zip(batches, independent, shares.tolist(), strict=True):
            kept = [parameter.detach().clone() for parameter in linear.parameters()]
            perturb(net, linear, x[other], y[other], 2.0 * share)
            optimizer.zero_grad()
            F.cross_entropy(net(x[index]), y[index]).backward()
            optimizer.step()
            put(linear, kept)
    return flatten(net)


def put(linear: nn.Linear, values: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(linear.parameters(), values, strict=True):
            parameter.copy_(value)


def perturb(net: nn.Module, linear: nn.Linear, x: Tensor, y: Tensor, share: float) -> None:
    loss = F.cross_entropy(net(x), y)
    slopes = torch.autograd.grad(loss, list(linear.parameters()))
    kept = [parameter.detach().clone() for parameter in linear.parameters()]

    def after(size: float) -> float:
        put(linear, [k - size * slope for k, slope in zip(kept, slopes, strict=True)])
        return F.cross_entropy(net(x), y).item()

    size = 1.0
    while after(size) <= loss.item():
        size *= 2
        if size >= 100:
            put(linear, kept)
            return
    sizes = [size * part / 16 for part in range(1, 17)]
    best = min(sizes, key=after)
    after(share * best)


def test_the_classifier_stays_as_it_was():
    theta = starts(2)
    trained, before = go(theta, chosen()), go(theta, plan([0.1, 0.2], epochs=EPOCHS))
    last = pof.classifier(NET)
    assert int(last.sum()) == sum(p.numel() for p in list(NET.parameters())[-2:])
    assert torch.equal(trained.theta[:, last], before.theta[:, last])
    assert (trained.theta != before.theta)[:, ~last].double().mean() > 0.9  # but for dead units


def searched(*functions: object) -> list[float]:
    def value(size: Tensor) -> Tensor:
        pairs = zip(functions, size[:, 0].tolist(), strict=True)
        return torch.tensor([[f(s)] for f, s in pairs], dtype=torch.float64)  # pyright: ignore

    found = pof.line_search(value, torch.zeros(len(functions), 1, dtype=torch.float64))
    return found[:, 0].tolist()


def test_line_search_by_hand():
    """A parabola with its least at 3: at 8 it is above 0's value, and 3 is six of 16 parts."""
    assert searched(
        lambda s: (s - 3) ** 2,
        lambda s: (s - 0.2) ** 2,  # above at 1; 3 / 16 is nearer than 4 / 16
        lambda s: -s,  # never above
        lambda s: (s - 40) ** 2,  # above only at 128, which is too far
        lambda s: math.nan if s >= 4 else -s,  # above at 4
    ) == [3.0, 0.1875, 0.0, 0.0, 3.75]


def test_a_network_without_features_is_refused():
    for net in (nn.Linear(5, 3), nn.Conv2d(1, 2, 3)):
        with pytest.raises(InputError, match=r"pof_epochs, .*: found . trainable linear layers"):
            pof.classifier(net)


def test_a_diverged_model_is_left_alone_and_another_can_still_diverge():
    theta = starts(3)
    theta[0] = torch.nan
    rates = torch.tensor([0.1, 1e6, 0.1], dtype=torch.float64)
    settings = plan([0.1] * 3, epochs=EPOCHS, pof_epochs=2, pof_learning_rate=rates)
    trained = go(theta, settings)
    assert trained.outcomes == ("diverged", "diverged", "finished")
    assert trained.theta[1:].isfinite().all()
    assert trained.steps.tolist() == [3, 9, 12]


def test_trap_21_running_statistics_move_once_a_step():
    options = {"depth": 8, "norm": "batch", "width": 4}
    net = models.build("resnet", shape=(1, 6, 6), num_classes=3, options=options, seed=0)
    stream = generator("batch norm")
    data = Split(torch.randn(12, 1, 6, 6, generator=stream), torch.arange(12) % 3, 3, "x")
    theta = flatten(net).repeat(2, 1)
    for changes in ({"optimizer": "sam"}, {"optimizer": "fad"}, {"pof_epochs": 1}):
        columns = (torch.full((2,), 0.1), torch.zeros(2), torch.zeros(2))
        settings = Plan(1, 4, *columns, **changes)  # pyright: ignore
        trained = train(net, CE, theta, data, settings, [generator(m) for m in range(2)])
        counted = [s for n, s in trained.statistics.items() if n.endswith("num_batches_tracked")]
        steps = 3 * (2 if "pof_epochs" in changes else 1)
        assert counted
        assert all(count.tolist() == [steps, steps] for count in counted)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet", "vgg", "vit", "mixer"])
def test_every_architecture_of_ours_has_a_classifier(name: str):
    net = models.build(name, shape=(1, 8, 8), num_classes=3, seed=0)
    marks, layout = pof.classifier(net), Layout.of(net)
    whole = [n for n, part in layout.slices.items() if marks[part].all()]
    assert [layout.shapes[layout.names.index(n)][0] for n in whole] == [3, 3]
    assert int(marks.sum()) == sum(layout.sizes[layout.names.index(n)] for n in whole)


def test_a_difference_of_two_networks_is_refused():
    net = models.build("mlp", shape=(4,), num_classes=3, options={"symmetrized": True})
    with pytest.raises(
        InputError, match=r"found a difference of two networks .*leave pof_epochs out"
    ):
        pof.classifier(net)
