"""The supervised contrastive loss: its formula, its training, and what it is not."""

import pytest
import torch
from oracle import relative_error
from torch import Tensor
from torch.nn import functional as F
from training_loops import BATCH, NET, N, alone, plan, run, split, starts

from gentheory import losses, measures
from gentheory.errors import InputError
from gentheory.losses.contrastive import class_means
from gentheory.params import flatten
from gentheory.risk import EmpiricalRisk
from gentheory.seeds import generator
from gentheory.training.evaluate import evaluate, example_losses

TAU = 0.5
LOSS = losses.resolve("supervised_contrastive", {"temperature": TAU})
OUTPUTS = torch.randn(7, 3, generator=generator("contrast"), dtype=torch.float64)
TARGETS = torch.tensor([0, 1, 0, 2, 1, 0, 1])  # the class 2 has one example


def by_loops(outputs: Tensor, targets: Tensor, tau: float) -> Tensor:
    z = [f / f.norm() for f in outputs]
    found: list[Tensor] = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        below = sum((z[i] @ z[a] / tau).exp() for a in others)
        same = [p for p in others if targets[p] == targets[i]]
        terms = [-((z[i] @ z[p] / tau).exp() / below).log() for p in same]
        found.append(torch.stack(terms).mean() if terms else torch.zeros((), dtype=z[i].dtype))
    return torch.stack(found)


def test_it_is_the_formula():
    found = LOSS.among(OUTPUTS, TARGETS)
    assert relative_error(found, by_loops(OUTPUTS, TARGETS, TAU)) < 1e-13
    assert found[3] == 0
    assert LOSS.mean(OUTPUTS, TARGETS).item() == pytest.approx(found.mean().item(), rel=1e-15)


def test_its_gradient_is_that_of_the_formula():
    one, two = (OUTPUTS.clone().requires_grad_() for _ in range(2))
    LOSS.mean(one, TARGETS).backward()
    by_loops(two, TARGETS, TAU).mean().backward()
    assert relative_error(one.grad, two.grad) < 1e-12


def test_an_example_alone_has_a_loss_of_zero_and_no_gradient():
    one = OUTPUTS[:1].clone().requires_grad_()
    LOSS.mean(one, TARGETS[:1]).backward()
    assert one.grad is not None
    assert one.grad.abs().max() == 0


def test_lengths_do_not_matter():
    lengths = torch.linspace(0.1, 30, 7, dtype=torch.float64)[:, None]
    assert (
        relative_error(LOSS.among(lengths * OUTPUTS, TARGETS), LOSS.among(OUTPUTS, TARGETS)) < 1e-13
    )


def test_a_stack_goes_as_a_plain_loop_does():
    theta, settings = starts(2), plan([0.1, 0.3])
    trained = run(theta, settings, loss=LOSS)
    data = split()
    x, y = data.inputs.double(), data.targets
    for m in range(2):
        net = alone(theta[m])
        order = generator("order", m)
        momentum, decay = float(settings.momentum[m]), float(settings.weight_decay[m])
        optimizer = torch.optim.SGD(
            net.parameters(), float(settings.learning_rate[m]), momentum, weight_decay=decay
        )
        curve = [by_loops(net(x), y, TAU).mean().item()]
        for _ in range(settings.epochs):
            for index in torch.randperm(N, generator=order).split(BATCH):
                optimizer.zero_grad()
                by_loops(net(x[index]), y[index], TAU).mean().backward()
                optimizer.step()
            curve.append(by_loops(net(x), y, TAU).mean().item())
        assert relative_error(trained.theta[m], flatten(net)) < 1e-10
        assert trained.curve[:, m].tolist() == pytest.approx(curve, rel=1e-10)


def test_accuracy_is_of_the_nearest_training_mean():
    data, theta = split(), starts(2)
    train, test = data.take(torch.arange(14)), data.take(torch.arange(14, N))
    found = evaluate(NET, LOSS, theta, train, test)
    for m in range(2):
        net = alone(theta[m])
        z, others = (F.normalize(net(d.inputs.double()), dim=1) for d in (train, test))
        means = torch.stack([F.normalize(z[train.targets == c].mean(0), dim=0) for c in range(3)])
        hits = ((others[:, None] - means).norm(dim=2).argmin(1) == test.targets).double().mean()
        assert found.test_accuracy[m].item() == pytest.approx(hits.item())
        assert found.train_loss[m].item() == pytest.approx(
            by_loops(z, train.targets, TAU).mean().item(), rel=1e-12
        )


def test_class_means_of_a_class_without_examples_are_zero():
    found = class_means(OUTPUTS, TARGETS, 4)
    assert found.shape == (4, 3)
    assert found[3].abs().max() == 0
    assert torch.allclose(found[:3].norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_blocks_and_not_memory_decide_what_an_anchor_is_among(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(type(LOSS), "block", 8)
    data, theta = split(), starts(3)
    args = (NET, LOSS, theta, data.inputs, data.targets)
    whole, _ = example_losses(*args)
    monkeypatch.setattr("gentheory.training.evaluate._ACTIVATIONS", 3 * 5 * 11)
    parts, _ = example_losses(*args)
    assert relative_error(parts, whole) < 1e-13
    single, _ = example_losses(NET, LOSS, theta[1:2], data.inputs, data.targets)
    assert relative_error(single[0], whole[1]) < 1e-12
    outputs, y = alone(theta[0])(data.inputs.double()), data.targets
    expected = torch.cat([by_loops(outputs[a : a + 8], y[a : a + 8], TAU) for a in (0, 8, 16)])
    assert relative_error(whole[0], expected.detach()) < 1e-12


def test_a_measure_of_examples_refuses_it():
    risk = EmpiricalRisk(NET, LOSS, (split().inputs, split().targets), dtype=torch.float64)
    message = "loss 'supervised_contrastive': found a loss that an example has only among others"
    with pytest.raises(InputError, match=message):
        risk.value()
    found = measures.measure(risk, ["spectra.trace"], seed=0, strict=False)["spectra.trace"]
    assert found.status != "ok"
    assert "only among others" in str(found.reason)


def test_probabilities_are_no_classes():
    with pytest.raises(InputError, match=r"found targets of shape \(7, 3\), expected classes"):
        LOSS.check(OUTPUTS.softmax(1), 3)
