"""Which examples a criterion looks at, in whatever form the data come."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gentheory.data.batches import TensorBatches
from gentheory.errors import InputError
from gentheory.pruning.held import Held

INPUTS, TARGETS = torch.arange(30.0)[:, None], torch.arange(30) % 3


class Counting(TensorDataset):
    """Which examples were read."""

    def __init__(self) -> None:
        super().__init__(INPUTS, TARGETS)
        self.read: list[int] = []

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        self.read.append(index)
        return super().__getitem__(index)


def forms() -> dict[str, object]:
    named = [{"x": INPUTS[:20], "labels": TARGETS[:20]}, {"x": INPUTS[20:], "labels": TARGETS[20:]}]
    return {
        "tensors": (INPUTS, TARGETS),
        "dataset": Counting(),
        "loader": DataLoader(Counting(), batch_size=7, shuffle=True, drop_last=True),
        "list": [(INPUTS[:13], TARGETS[:13]), (INPUTS[13:], TARGETS[13:])],
        "named": named,
    }


def held(data: object, count: int | None, seed: int = 0) -> Held:
    return Held.of(data, batch_size=8, max_examples=count, seed=seed)


@pytest.mark.parametrize("form", forms())
@pytest.mark.parametrize("count", [None, 11, 100])
def test_all_forms_give_the_same_examples(form: str, count: int | None):
    found = held(forms()[form], count)
    expected = held((INPUTS, TARGETS), count)
    assert (found.total, found.count) == (30, 11 if count == 11 else 30)
    for fewer in (found.count, 5):
        own, other = found.first(fewer), expected.first(fewer)
        assert torch.equal(own.inputs, other.inputs)
        assert torch.equal(own.targets, other.targets)
        assert len(own.inputs) == fewer
    assert [len(x) for x, _ in found.first(11)] == [8, 3]


def test_fewer_are_a_part_of_more_and_in_the_order_of_the_data():
    found = held((INPUTS, TARGETS), 20)
    more, fewer = (found.first(n).inputs[:, 0].tolist() for n in (20, 9))
    assert set(fewer) < set(more)
    assert fewer == sorted(fewer)
    assert more == sorted(more)
    assert held((INPUTS, TARGETS), 9).first(9).inputs[:, 0].tolist() == fewer
    assert held((INPUTS, TARGETS), 9, seed=1).first(9).inputs[:, 0].tolist() != fewer


def test_inputs_and_targets_stay_together():
    found = held((INPUTS, TARGETS), 12).first(7)
    assert torch.equal(found.targets, found.inputs[:, 0].long() % 3)


def test_all_of_two_tensors_are_not_copied():
    assert held((INPUTS, TARGETS), None).first(30).inputs is INPUTS


def test_no_others_are_read_and_none_twice_after_the_check():
    data = Counting()
    found = held(data, 5)
    assert data.read == [0]  # to see whether its inputs have names
    chosen = [int(x) for x in found.first(5).inputs]
    found.first(3)
    assert data.read == [0, *chosen, *chosen]


def test_named_inputs_know_what_they_are():
    found = held(forms()["named"], 6).first(6)
    assert isinstance(found, TensorBatches)
    assert found.fields is not None
    assert found.fields.names == ("x",)


def test_random_data_are_refused_and_the_global_generator_is_left_alone():
    class Noise(Counting):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
            return torch.rand(1), TARGETS[index]

    torch.manual_seed(0)
    state = torch.get_rng_state()
    with pytest.raises(InputError, match="other values on the second pass than on the first"):
        held(Noise(), 5).first(5)
    assert torch.equal(torch.get_rng_state(), state)
