"""The embedded digits: the whole set, split once and for all."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from gentheory.data.digits import digits
from gentheory.errors import InputError


def test_sizes_shape_and_classes():
    train, test = digits()
    assert (len(train), len(test), tuple(train.shape)) == (1200, 597, (1, 8, 8))
    assert train.num_classes == test.num_classes == 10
    assert train.targets.unique().tolist() == list(range(10))


def test_both_parts_together_are_the_whole_set_scaled_by_the_training_part():
    train, test = digits()
    images, labels = load_digits(return_X_y=True)
    joined = torch.cat([train.inputs, test.inputs]).double().flatten(1)
    # Undo the scaling with two numbers found from the extremes: raw pixels run from 0 to 16.
    low, high = joined.min(), joined.max()
    raw = ((joined - low) / (high - low) * 16).round().long()
    targets = torch.cat([train.targets, test.targets])
    rows = np.hstack([raw.numpy(), targets[:, None].numpy()])
    expected = np.hstack([images.astype(int), labels[:, None]])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))


def test_training_part_has_mean_zero_and_deviation_one():
    train, test = digits()
    assert train.inputs.double().mean().abs() < 1e-6
    assert (train.inputs.double().std(correction=0) - 1).abs() < 1e-6
    assert test.inputs.double().mean().abs() > 1e-4


def test_the_split_is_fixed_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = digits()[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(digits()[0].inputs, first.inputs)


def test_the_split_is_the_one_that_stored_results_were_made_with():
    train, test = digits()
    assert train.targets[:10].tolist() == [5, 9, 2, 5, 3, 6, 6, 6, 5, 4]
    assert test.targets[:10].tolist() == [2, 0, 1, 8, 8, 6, 8, 1, 4, 3]


def test_a_smaller_test_part_lies_within_a_larger_one():
    small, large = digits(num_test=100)[1], digits(num_test=300)[1]
    assert torch.equal(small.targets, large.targets[:100])
    assert len(digits(num_test=1796)[0]) == 1


@pytest.mark.parametrize("num_test", [0, -3, 1797])
def test_an_empty_part_is_refused(num_test: int):
    match = rf"data\.num_test: found {num_test}, expected 1 to 1796"
    with pytest.raises(InputError, match=match):
        digits(num_test=num_test)
