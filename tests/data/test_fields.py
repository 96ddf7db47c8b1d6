"""Named inputs lie in one tensor and come out as they went in."""

import pytest
import torch
from torch import Tensor

from gentheory.data.batches import batches
from gentheory.data.fields import Fields
from gentheory.errors import InputError

IDS = torch.arange(12).reshape(2, 2, 3)
MASK = torch.tensor([True, False])
WEIGHTS = torch.tensor([[0.5], [2.0]])
LABELS = torch.tensor([1, 0])


def round_trip(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    fields = Fields.of(inputs)
    return fields.unpack(fields.pack(inputs))


@pytest.mark.parametrize(
    "inputs", [{"ids": IDS, "mask": MASK}, {"ids": IDS, "mask": MASK, "weights": WEIGHTS}]
)
def test_what_went_in_comes_out(inputs: dict[str, Tensor]) -> None:
    found = round_trip(inputs)
    assert list(found) == list(inputs)
    for name, tensor in inputs.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_whole_numbers_stay_whole_unless_floats_lie_beside_them() -> None:
    assert Fields.of({"ids": IDS}).pack({"ids": IDS}).dtype == torch.int64
    mixed = {"ids": IDS, "weights": WEIGHTS}
    assert Fields.of(mixed).pack(mixed).dtype == torch.float32
    mixed["ids"] = IDS + 2**24
    with pytest.raises(InputError, match=r"input 'ids': found a whole number above 16777216"):
        Fields.of(mixed).pack(mixed)


def test_batches_of_another_length_are_refused() -> None:
    rows = [{"ids": IDS, "labels": LABELS}, {"ids": IDS[:, :, :2], "labels": LABELS}]
    with pytest.raises(InputError, match=r"a batch of ids \[2, 2\], expected ids \[2, 3\], as in"):
        list(batches(rows, batch_size=2))


def test_targets_handed_in_beside_the_mapping_are_the_targets() -> None:
    frozen = batches([({"ids": IDS, "labels": LABELS}, LABELS + 5)], batch_size=2)
    ((inputs, targets),) = frozen
    assert torch.equal(targets, LABELS + 5)
    assert frozen.fields is not None
    assert list(frozen.fields.unpack(inputs)) == ["ids", "labels"]
