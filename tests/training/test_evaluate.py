"""Losses, accuracies and gaps against a plain loop."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES
from oracle import relative_error
from torch import Tensor
from torch.nn import functional as F

from gentheory import losses
from gentheory.data.split import Split
from gentheory.params import load_flat
from gentheory.seeds import generator
from gentheory.training import evaluate as module
from gentheory.training.evaluate import evaluate, evaluations, example_losses

NET = CASES["mlp"].module


def split(count: int, name: str) -> Split:
    stream = generator("evaluate", name)
    targets = torch.randint(3, (count,), generator=stream)
    return Split(torch.randn(count, 5, generator=stream), targets, 3, name)


TRAIN, TEST = split(9, "train"), split(13, "test")
THETA = torch.randn(3, 100, generator=generator("evaluate", "theta"), dtype=torch.float64)


def looped(theta: Tensor, data: Split) -> tuple[list[float], list[bool]]:
    net = CASES["mlp"].module.eval()
    load_flat(net, theta)
    values, hits = [], []
    with torch.no_grad():
        for x, y in zip(data.inputs, data.targets, strict=True):
            outputs = net(x.double()[None])
            values.append(F.cross_entropy(outputs, y[None]).item())
            hits.append(bool(outputs.argmax() == y))
    return values, hits


def test_evaluation_is_a_plain_loop():
    found = evaluate(NET, losses.cross_entropy, THETA, TRAIN, TEST)
    for m in range(3):
        (on_train, right_train), (on_test, right_test) = (
            looped(THETA[m], data) for data in (TRAIN, TEST)
        )
        assert found.train_loss[m].item() == pytest.approx(np.mean(on_train), rel=1e-12)
        assert found.test_loss[m].item() == pytest.approx(np.mean(on_test), rel=1e-12)
        assert found.train_accuracy[m].item() == pytest.approx(np.mean(right_train), rel=1e-14)
        assert found.test_accuracy[m].item() == pytest.approx(np.mean(right_test), rel=1e-14)
        gap = np.mean(on_test) - np.mean(on_train)
        assert found.gap[m].item() == pytest.approx(gap, rel=1e-11)
        error = np.std(on_test, ddof=1) / math.sqrt(13)
        assert found.gap_stderr[m].item() == pytest.approx(error, rel=1e-11)


@pytest.mark.parametrize("numbers", [1, 3 * 5 * 2, 3 * 5 * 4, 10**6])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, numbers: int):
    monkeypatch.setattr(module, "_ACTIVATIONS", numbers)
    values, hits = example_losses(NET, losses.cross_entropy, THETA, TEST.inputs, TEST.targets)
    expected, right = zip(*(looped(theta, TEST) for theta in THETA), strict=True)
    assert values.shape == (3, 13)
    assert relative_error(values, torch.tensor(expected, dtype=torch.float64)) < 1e-13
    assert hits.tolist() == list(right)


def test_each_model_may_have_targets_of_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_ACTIVATIONS", 3 * 5 * 4)
    own = torch.stack([TEST.targets.roll(m) for m in range(3)])
    values, hits = example_losses(NET, losses.cross_entropy, THETA, TEST.inputs, own)
    for m in range(3):
        data = Split(TEST.inputs, own[m], 3, "rolled")
        expected, right = looped(THETA[m], data)
        assert values[m].tolist() == pytest.approx(expected, rel=1e-12)
        assert hits[m].tolist() == right


def test_several_test_data_are_evaluated_after_one_look_at_the_training_data(
    monkeypatch: pytest.MonkeyPatch,
):
    tests = [TEST, TEST.take(torch.arange(5)), TRAIN]
    expected = [evaluate(NET, losses.cross_entropy, THETA, TRAIN, test) for test in tests]
    looks: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        looks.append(len(arguments[3]))
        return example_losses(*arguments, **options)

    monkeypatch.setattr(module, "example_losses", counted)
    found = evaluations(NET, losses.cross_entropy, THETA, TRAIN, tests)
    assert looks == [len(data) for data in (TRAIN, *tests)]
    for one, other in zip(found, expected, strict=True):
        for name in ("train_loss", "test_accuracy", "gap", "gap_stderr"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        assert one.num_test == other.num_test


def test_trap_30_float32_models_are_averaged_in_float64():
    found = evaluate(NET.float(), losses.cross_entropy, THETA.float(), TRAIN, TEST)
    NET.double()
    assert found.train_loss.dtype == torch.float64
    expected = evaluate(NET, losses.cross_entropy, THETA, TRAIN, TEST)
    assert torch.allclose(found.test_loss, expected.test_loss, rtol=1e-5)


def test_a_broken_model_is_nan_alone():
    sick = THETA.clone()
    sick[1] = torch.nan
    found = evaluate(NET, losses.cross_entropy, sick, TRAIN, TEST)
    expected = evaluate(NET, losses.cross_entropy, THETA, TRAIN, TEST)
    assert found.test_loss.isnan().tolist() == [False, True, False]
    assert torch.equal(found.gap[[0, 2]], expected.gap[[0, 2]])


def test_no_gradient_is_kept():
    theta = THETA.clone().requires_grad_()
    values, _ = example_losses(NET, losses.mse, theta, TEST.inputs, TEST.targets)
    assert not values.requires_grad
