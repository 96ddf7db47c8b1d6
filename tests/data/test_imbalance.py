"""Imbalanced classes: counts worked out by hand, exact nesting, refusals."""

import pytest
import torch

from gentheory.data.imbalance import class_shares, imbalanced
from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.seeds import generator


def shuffled(*counts: int, seed: int = 0) -> torch.Tensor:
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return targets[torch.randperm(len(targets), generator=generator("imbalance", seed))]


def counted(kind: str, ratio: float, *available: int, n: int | None = None) -> list[int]:
    targets = shuffled(*available)
    chosen = imbalanced(targets, class_shares(kind, ratio, len(available)))[:n]
    return targets[chosen].bincount(minlength=len(available)).tolist()


@pytest.mark.parametrize(
    ("kind", "ratio", "classes", "shares"),
    [
        ("exponential", 100, 3, [1, 0.1, 0.01]),
        ("exponential", 8, 4, [1, 0.5, 0.25, 0.125]),
        ("step", 10, 4, [1, 1, 0.1, 0.1]),
        ("step", 5, 5, [1, 1, 1, 0.2, 0.2]),
        ("none", 1, 3, [1, 1, 1]),
    ],
)
def test_shares_are_those_of_the_formula(
    kind: str, ratio: float, classes: int, shares: list[float]
):
    torch.testing.assert_close(
        class_shares(kind, ratio, classes), torch.tensor(shares, dtype=torch.float64)
    )


def test_all_examples_of_the_largest_class_are_used_and_the_others_follow_the_formula():
    assert counted("exponential", 100, 500, 500, 500) == [500, 50, 5]
    assert counted("step", 10, 40, 40, 40, 40) == [40, 40, 4, 4]
    # 100 · 10^(-c/3): 100, 46.4, 21.5, 10.
    assert counted("exponential", 10, 100, 100, 100, 100) == [100, 46, 22, 10]


def test_a_small_class_limits_all():
    # With 30 of the second class at half the share, there can be 60 of the first.
    assert counted("exponential", 2, 500, 30) == [60, 30]


def test_fewer_examples_keep_the_shares():
    assert counted("step", 4, 90, 90, n=50) == [40, 10]
    assert counted("exponential", 100, 500, 500, 500, n=111) == [100, 10, 1]


def test_counts_are_those_of_the_divisor_method_and_nest():
    targets, shares = shuffled(60, 60, 60, 60), class_shares("exponential", 7.3, 4)
    order = imbalanced(targets, shares)
    counts = torch.zeros(4, dtype=torch.float64)
    for position in order.tolist():
        # Webster: the next seat goes to the class with the largest share / (2 n_c + 1).
        assert targets[position] == (shares / (2 * counts + 1)).argmax()
        counts[targets[position]] += 1
    assert len(order.unique()) == len(order)


def test_a_class_gives_its_first_examples():
    targets = shuffled(20, 20)
    order = imbalanced(targets, class_shares("step", 4.0, 2))
    for c in range(2):
        own = order[targets[order] == c]
        assert torch.equal(own, (targets == c).nonzero().flatten()[: len(own)])


@pytest.mark.parametrize(
    ("kind", "ratio", "classes", "match"),
    [
        ("none", 10.0, 3, "imbalance_ratio: found 10 without imbalance"),
        ("step", 0.5, 3, "imbalance_ratio: found 0.5, expected 1 or more"),
        ("step", float("inf"), 3, "imbalance_ratio: found inf, expected 1 or more, finite"),
        ("linear", 2.0, 3, "imbalance: found 'linear', expected one of none, exponential, step"),
        ("exponential", 2.0, 1, "imbalance: found 1 class, expected 2 or more"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind: str, ratio: float, classes: int, match: str):
    with pytest.raises(InputError, match=match):
        class_shares(kind, ratio, classes)


def test_targets_beyond_the_classes_are_refused():
    with pytest.raises(InputError, match="imbalance: found target 2 at position 0"):
        imbalanced(torch.tensor([2, 0]), class_shares("step", 2.0, 2))


STEP = {"imbalance": "step", "imbalance_ratio": 10.0}


def test_a_recipe_nests_and_leaves_the_test_data_as_they_are():
    small, large = (Recipe("digits", n_train=n, seed=3, **STEP) for n in (55, 110))
    assert torch.equal(small.indices(), large.indices()[:55])
    assert small.train().targets.bincount().tolist() == [10] * 5 + [1] * 5
    assert torch.equal(small.test().targets, Recipe("digits", seed=3).test().targets)


def test_held_out_examples_are_as_imbalanced_and_others_than_those_trained_on():
    recipe = Recipe("digits", n_train=220, **STEP)
    held_out = recipe.held_out_indices(110)
    assert not set(held_out.tolist()) & set(recipe.indices().tolist())
    assert recipe.held_out(110).targets.bincount().tolist() == [20] * 5 + [2] * 5


def test_more_examples_than_the_imbalance_leaves_are_refused():
    recipe = Recipe("digits", n_train=1000, **STEP)
    match = rf"n_train: found 1000, expected 1 to {recipe.available()} for digits with step imbal"
    with pytest.raises(InputError, match=match):
        recipe.indices()


def test_the_seed_chooses_the_examples():
    one, same, other = (Recipe("digits", n_train=50, seed=s, **STEP).indices() for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
