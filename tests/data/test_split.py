"""Splits check what they are given, and name the first bad example."""

import dataclasses
import math
import pickle

import pytest
import torch

from gentheory.data.split import Split, check_targets
from gentheory.errors import InputError


def tiny(num_examples: int = 4) -> Split:
    inputs = torch.arange(6.0 * num_examples).reshape(num_examples, 1, 2, 3)
    return Split(inputs, torch.arange(num_examples) % 3, num_classes=3, name="tiny")


def test_length_and_shape_of_one_example():
    assert len(tiny(5)) == 5
    assert tiny().shape == (1, 2, 3)
    assert Split(torch.zeros(2), torch.zeros(2).long(), 1, "scalars").shape == ()


def test_take_keeps_order_and_repeats():
    part = tiny().take(torch.tensor([3, 0, 3]))
    assert part.inputs[:, 0, 0, 0].tolist() == [18.0, 0.0, 18.0]
    assert part.targets.tolist() == [0, 0, 0]
    assert (part.num_classes, part.name) == (3, "tiny")


def test_take_copies_so_that_the_source_stays():
    source = tiny()
    source.take(torch.tensor([0])).inputs.fill_(9.0)
    assert source.inputs[0].max() == 5.0


@pytest.mark.parametrize(("index", "position"), [(-1, 1), (4, 1)])
def test_take_refuses_positions_outside(index: int, position: int):
    expected = f"tiny indices: found index {index} at position {position}, expected 0 to 3"
    with pytest.raises(InputError, match=expected):
        tiny().take(torch.tensor([0, index]))


def test_take_refuses_a_mask_and_an_empty_list():
    with pytest.raises(InputError, match=r"torch\.bool of shape \(4,\).*nonzero"):
        tiny().take(torch.ones(4, dtype=torch.bool))
    with pytest.raises(InputError, match="N of at least 1"):
        tiny().take(torch.empty(0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("value", "kind"), [(math.nan, "nan"), (math.inf, "an infinite"), (-math.inf, "an infinite")]
)
def test_first_example_that_is_not_finite_is_named(value: float, kind: str):
    inputs = torch.zeros(5, 2, 2)
    inputs[3, 1, 0] = inputs[4, 0, 0] = value
    with pytest.raises(InputError, match=rf"bad inputs: found {kind}.* in example 3,.*the 2 ex"):
        Split(inputs, torch.zeros(5).long(), 1, "bad")


def test_infinities_that_cancel_are_seen():
    with pytest.raises(InputError, match="an infinite number in example 0"):
        Split(torch.tensor([[math.inf, -math.inf]]), torch.tensor([0]), 1, "bad")


def test_finite_numbers_whose_sum_overflows_are_accepted():
    largest = torch.finfo(torch.float32).max
    assert len(Split(torch.full((3, 2), largest), torch.zeros(3).long(), 1, "huge")) == 3


@pytest.mark.parametrize("value", [-1, 3, 255])
def test_first_bad_target_is_named_with_the_range(value: int):
    targets = torch.tensor([0, 2, value, value])
    match = f"bad targets: found target {value} at position 2, expected 0 to 2; .* the 1 others"
    with pytest.raises(InputError, match=match):
        Split(torch.zeros(4, 1), targets, 3, "bad")


def test_zero_classes_are_refused():
    with pytest.raises(InputError, match="here: found 0 classes, expected at least 1"):
        check_targets(torch.tensor([0]), 0, place="here")


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        (torch.zeros(3, 1), torch.zeros(2).long()),
        (torch.zeros(0, 1), torch.zeros(0).long()),
        (torch.zeros(2, 1), torch.zeros(2, 1).long()),
        (torch.tensor(0.0), torch.zeros(1).long()),
    ],
)
def test_shapes_that_do_not_match_are_refused(inputs: torch.Tensor, targets: torch.Tensor):
    with pytest.raises(InputError, match=r"expected \[N, \.\.\.\] and \[N\] with N of at least 1"):
        Split(inputs, targets, 1, "bad")


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        (torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2).long()),
        (torch.zeros(2, 1), torch.zeros(2)),
    ],
)
def test_other_types_are_refused(inputs: torch.Tensor, targets: torch.Tensor):
    with pytest.raises(InputError, match=r"expected torch\.float32 and torch\.int64"):
        Split(inputs, targets, 1, "bad")


def test_splits_are_frozen_hashable_and_travel_by_pickle():
    split = tiny()
    with pytest.raises(dataclasses.FrozenInstanceError, match="num_classes"):
        split.num_classes = 5  # type: ignore[misc]
    assert len({split, split, tiny()}) == 2
    assert torch.equal(pickle.loads(pickle.dumps(split)).inputs, split.inputs)


def test_real_targets_are_rows_of_finite_numbers():
    split = Split(torch.zeros(3, 2), torch.ones(3, 4), 4, "real")
    assert split.real
    assert not tiny().real
    assert split.take(torch.tensor([1])).targets.shape == (1, 4)
    with pytest.raises(InputError, match="real targets: found nan in example 1"):
        Split(torch.zeros(2, 1), torch.tensor([[1.0], [math.nan]]), 1, "real")
    with pytest.raises(InputError, match=r"expected torch\.float32 and torch\.int64"):
        Split(torch.zeros(3, 2), torch.ones(3, 4), 3, "columns")
    with pytest.raises(InputError, match=r"expected \[N, \.\.\.\] and \[N\]"):
        Split(torch.zeros(2, 2), torch.ones(3, 4), 4, "rows")
