"""Losses, accuracies and gaps of a stack against a plain loop over models and examples."""

import pytest
import torch
from torch import nn

from gentheory import losses, models
from gentheory.data import gaussian_classes
from gentheory.params import flatten
from gentheory.training import evaluate as evaluation
from gentheory.training.evaluate import evaluate, example_losses


@pytest.fixture
def nets():
    return [
        models.build("mlp", shape=(4,), num_classes=3, seed=seed, options={"width": 5}).double()
        for seed in range(3)
    ]


@pytest.fixture
def parts():
    options = {"num_features": 4, "num_classes": 3, "separation": 1.0, "seed": 1}
    return gaussian_classes(num_train=17, num_test=29, **options)


@pytest.mark.parametrize("at_once", [2**21, 7])
def test_a_stack_against_a_loop(nets, parts, monkeypatch, at_once):
    monkeypatch.setattr(evaluation, "_ACTIVATIONS", at_once)
    train, test = parts
    found = evaluate(nets[0], losses.cross_entropy, torch.stack([*map(flatten, nets)]), train, test)
    for m, net in enumerate(nets):
        with torch.no_grad():
            f_train, f_test = net(train.inputs.double()), net(test.inputs.double())
        on_train = nn.functional.cross_entropy(f_train, train.targets, reduction="none")
        on_test = nn.functional.cross_entropy(f_test, test.targets, reduction="none")
        assert float(found.train_loss[m]) == pytest.approx(float(on_train.mean()), abs=1e-12)
        assert float(found.test_loss[m]) == pytest.approx(float(on_test.mean()), abs=1e-12)
        gap = float(on_test.mean() - on_train.mean())
        assert float(found.gap[m]) == pytest.approx(gap, abs=1e-12)
        assert float(found.gap_stderr[m]) == pytest.approx(float(on_test.std()) / 29**0.5)
        hits = (f_test.argmax(1) == test.targets).double().mean()
        assert float(found.test_accuracy[m]) == pytest.approx(float(hits))


def test_the_gap_error_covers_the_draw_of_the_test_examples(nets):
    """Over fresh test sets the gap scatters by its standard error."""
    options = {"num_features": 4, "num_classes": 3, "separation": 1.0, "seed": 1}
    train, pool = gaussian_classes(num_train=17, num_test=200 * 50, **options)
    theta = flatten(nets[0])[None]
    gaps, errors = [], []
    for index in torch.arange(len(pool)).split(50):
        found = evaluate(nets[0], losses.cross_entropy, theta, train, pool.take(index))
        gaps.append(float(found.gap))
        errors.append(float(found.gap_stderr))
    spread = torch.tensor(gaps).std()
    # A standard deviation of 200 draws is known to 1 / √400 = 5 %; three of those.
    assert float(spread / torch.tensor(errors).mean()) == pytest.approx(1.0, abs=0.15)


def test_each_model_may_have_its_own_targets(nets, parts):
    train, _ = parts
    theta = torch.stack([*map(flatten, nets)])
    own = torch.stack([(train.targets + m) % 3 for m in range(3)])
    together, _ = example_losses(nets[0], losses.cross_entropy, theta, train.inputs, own)
    for m in range(3):
        alone, _ = example_losses(
            nets[0], losses.cross_entropy, theta[m : m + 1], train.inputs, own[m]
        )
        torch.testing.assert_close(together[m], alone[0], rtol=0, atol=1e-12)
