"""Gaussian classes against what is known of them in closed form."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import chisquare, kstest, norm

from gentheory.data.recipe import Recipe
from gentheory.data.synthetic import class_means, direction, gaussian_classes, polynomial
from gentheory.errors import InputError

SIZES: dict[str, Any] = {
    "num_train": 4000,
    "num_test": 4000,
    "num_features": 5,
    "num_classes": 3,
    "separation": 2.0,
    "seed": 0,
}


@pytest.mark.parametrize(("num_classes", "num_features"), [(2, 1), (3, 5), (10, 4)])
def test_means_are_centred_and_their_distance_is_the_separation(
    num_classes: int, num_features: int
):
    means = class_means(num_features=num_features, num_classes=num_classes, separation=1.7, seed=4)
    assert means.mean(0).abs().max() < 1e-15
    pairs = torch.pdist(means)
    assert pairs.square().mean().sqrt().item() == pytest.approx(1.7, rel=1e-14)


def test_parts_have_the_stated_form():
    train, test = gaussian_classes(**{**SIZES, "num_train": 7, "num_test": 3})
    assert (len(train), len(test), tuple(train.shape)) == (7, 3, (5,))
    assert train.num_classes == test.num_classes == 3
    assert (train.name, test.name) == ("gaussian_classes.train", "gaussian_classes.test")


@pytest.mark.parametrize("part", [0, 1])
def test_residuals_are_standard_normal_and_labels_uniform(part: int):
    split = gaussian_classes(**SIZES)[part]
    means = class_means(num_features=5, num_classes=3, separation=2.0, seed=0)
    residuals = split.inputs.double() - means[split.targets]
    assert kstest(residuals.flatten().numpy(), norm.cdf).pvalue > 1e-3
    deviations = torch.cov(residuals.T) - torch.eye(5)
    assert deviations.abs().max() < 5 * math.sqrt(2 / len(split))
    assert chisquare(split.targets.bincount().numpy()).pvalue > 1e-3


def test_two_classes_have_the_stated_bayes_error():
    test = gaussian_classes(**{**SIZES, "num_classes": 2, "num_test": 40_000})[1]
    means = class_means(num_features=5, num_classes=2, separation=2.0, seed=0)
    wrong = torch.cdist(test.inputs.double(), means).argmin(1) != test.targets
    truth = norm.cdf(-1.0)
    error = math.sqrt(truth * (1 - truth) / len(test))
    assert abs(wrong.double().mean().item() - truth) < 4 * error


def test_separation_zero_makes_the_classes_alike():
    means = class_means(num_features=3, num_classes=4, separation=0.0, seed=1)
    assert means.abs().max() == 0


def test_parts_differ_and_do_not_depend_on_each_other():
    train, test = gaussian_classes(**SIZES)
    assert not torch.equal(train.inputs, test.inputs)
    assert torch.equal(gaussian_classes(**{**SIZES, "num_train": 10})[1].inputs, test.inputs)


def test_the_seed_decides_and_the_global_generator_does_not():
    state = torch.get_rng_state()
    first = gaussian_classes(**SIZES)[0].inputs
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(gaussian_classes(**SIZES)[0].inputs, first)
    assert not torch.equal(gaussian_classes(**{**SIZES, "seed": 1})[0].inputs, first)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("num_train", 0, "1 or more"),
        ("num_test", -1, "1 or more"),
        ("num_features", 0, "1 or more"),
        ("num_classes", 1, "2 or more"),
        ("separation", -0.5, "0 or more"),
        ("separation", math.nan, "0 or more"),
        ("separation", math.inf, "0 or more"),
    ],
)
def test_options_out_of_range_are_named(option: str, value: float, expected: str):
    with pytest.raises(InputError, match=rf"data\.{option}: found {value}, expected {expected}"):
        gaussian_classes(**{**SIZES, option: value})


POLYNOMIAL: dict[str, Any] = {"num_train": 3000, "num_test": 500, "num_features": 20, "seed": 0}


def test_polynomial_targets_are_squares_along_one_direction():
    train, test = polynomial(**POLYNOMIAL)
    beta = direction(num_features=20, seed=0)
    assert float(beta.square().sum()) == pytest.approx(20)
    for split, count in ((train, 3000), (test, 500)):
        assert (len(split), split.shape, split.num_classes, split.real) == (count, (20,), 1, True)
        expected = (split.inputs.double() @ beta).square()[:, None] / 2
        torch.testing.assert_close(split.targets.double(), expected, rtol=1e-5, atol=1e-6)
    assert kstest((train.inputs * math.sqrt(20)).flatten().numpy(), norm.cdf).pvalue > 1e-3
    assert train.targets.mean().item() == pytest.approx(0.5, abs=4 * 0.5**0.5 / 3000**0.5)
    assert not torch.equal(test.inputs, train.inputs[:500])
    other = polynomial(**{**POLYNOMIAL, "num_train": 100})[1]
    assert torch.equal(other.inputs, test.inputs)


@pytest.mark.parametrize("option", ["num_train", "num_test", "num_features"])
def test_polynomial_sizes_below_one_are_named(option: str):
    with pytest.raises(InputError, match=f"data.{option}: found 0, expected 1 or more"):
        polynomial(**{**POLYNOMIAL, option: 0})


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"label_noise": 0.1}, "label_noise"),
        ({"imbalance": "step", "imbalance_ratio": 2.0}, "imbalance"),
    ],
)
def test_a_recipe_of_real_targets_has_no_noise_of_labels(changes: dict[str, Any], option: str):
    recipe = Recipe("polynomial", {**POLYNOMIAL, "num_train": 30}, n_train=10)
    assert recipe.train().targets.shape == (10, 1)
    assert recipe.test().real
    with pytest.raises(
        InputError, match=rf"data\.{option}: found polynomial, whose targets are no classes"
    ):
        replace(recipe, **changes).train()
