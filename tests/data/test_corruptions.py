"""Subsets and label noise: exact counts, right distributions, private generators."""

import math
from collections import Counter

import pytest
import torch
from scipy.stats import chisquare

from gentheory.data.corruptions import label_noise, subset
from gentheory.errors import InputError
from gentheory.seeds import generator


def test_subset_has_distinct_indices_in_range():
    chosen = subset(50, 20, generator=generator(0))
    assert chosen.dtype == torch.int64
    assert len(chosen.unique()) == 20
    assert 0 <= chosen.min() <= chosen.max() < 50


def test_the_whole_is_a_permutation():
    chosen = subset(50, 50, generator=generator(0))
    assert chosen.tolist() != list(range(50))
    assert sorted(chosen.tolist()) == list(range(50))


def test_a_smaller_subset_begins_a_larger_one():
    small, large = (subset(50, n, generator=generator(3)) for n in (10, 30))
    assert torch.equal(small, large[:10])


def test_all_ordered_pairs_are_equally_likely():
    stream = generator("pairs")
    pairs = Counter(tuple(subset(4, 2, generator=stream).tolist()) for _ in range(3600))
    assert len(pairs) == 12
    assert chisquare(list(pairs.values())).pvalue > 1e-3


@pytest.mark.parametrize("n", [0, -1, 51])
def test_subset_names_both_numbers(n: int):
    match = f"subset: found n = {n} of 50 examples, expected 1 to 50"
    with pytest.raises(InputError, match=match):
        subset(50, n, generator=generator(0))


@pytest.mark.parametrize(
    ("fraction", "wrong"), [(0.0, 0), (0.1, 101), (0.2504, 253), (1.0, 1009), (1e-4, 0)]
)
def test_exactly_the_stated_share_is_wrong(fraction: float, wrong: int):
    targets = torch.arange(1009) % 7
    noisy = label_noise(targets, fraction, num_classes=7, generator=generator(1))
    assert int((noisy != targets).sum()) == wrong
    assert 0 <= noisy.min() <= noisy.max() < 7
    assert noisy.dtype == torch.int64


def test_the_given_targets_are_kept():
    targets = torch.zeros(10, dtype=torch.int64)
    for fraction in (0.0, 1.0):
        noisy = label_noise(targets, fraction, num_classes=2, generator=generator(1))
        noisy.fill_(1)
        assert targets.sum() == 0


def test_wrong_labels_are_uniform_over_the_other_classes():
    targets = torch.full((9000,), 2)
    noisy = label_noise(targets, 1.0, num_classes=4, generator=generator("classes"))
    counts = noisy.bincount(minlength=4)
    assert counts[2] == 0
    assert chisquare(counts[[0, 1, 3]].numpy()).pvalue > 1e-3


def test_examples_are_chosen_uniformly():
    targets, stream, hits = torch.zeros(8, dtype=torch.int64), generator("who"), torch.zeros(8)
    for _ in range(2000):
        hits += label_noise(targets, 0.25, num_classes=3, generator=stream) != 0
    assert hits.sum() == 4000
    # Two of eight a time: counts vary less than a multinomial's, so the test errs on the safe side.
    assert chisquare(hits.numpy()).pvalue > 1e-3


def test_the_seed_decides_and_the_global_generator_does_not():
    targets = torch.arange(100) % 10
    state = torch.get_rng_state()

    def draw(seed: int) -> tuple[list[int], list[int]]:
        noisy = label_noise(targets, 0.5, num_classes=10, generator=generator(seed))
        return noisy.tolist(), subset(100, 30, generator=generator(seed)).tolist()

    first = draw(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    assert draw(1) == first
    assert draw(2)[0] != first[0]
    assert draw(2)[1] != first[1]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, math.inf])
def test_fraction_outside_the_unit_interval_is_refused(fraction: float):
    with pytest.raises(InputError, match=f"found fraction {fraction}, expected 0 to 1"):
        label_noise(torch.tensor([0]), fraction, num_classes=2, generator=generator(0))


def test_one_class_leaves_no_other():
    targets = torch.zeros(3, dtype=torch.int64)
    assert torch.equal(label_noise(targets, 0.0, num_classes=1, generator=generator(0)), targets)
    with pytest.raises(InputError, match="found 1 classes, expected 2 or more"):
        label_noise(targets, 0.5, num_classes=1, generator=generator(0))


def test_targets_that_are_no_classes_are_refused():
    with pytest.raises(InputError, match="label_noise: found target 5 at position 1"):
        label_noise(torch.tensor([0, 5]), 0.5, num_classes=3, generator=generator(0))
