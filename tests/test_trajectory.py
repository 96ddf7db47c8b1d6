"""A trajectory by model and by window, and its mean."""

from dataclasses import replace

import pytest
import torch

from gentheory.trajectory import NAMES, Trajectory


def stack() -> Trajectory:
    """Two models, three windows, four examples, two outputs, five parameters."""
    stream = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 4, 2), (2, 3, 4), (2, 3, 5), (2, 3, 4))
    time = torch.tensor([[1.0, 2.0, 5.0], [1.0, 3.0, 0.0]], dtype=torch.float64)
    kept = Trajectory(
        time, *(torch.randn(s, generator=stream, dtype=torch.float64) for s in shapes)
    )
    kept.residuals[1, 2] = torch.nan  # training stopped before
    kept.traces[1, 2] = torch.nan
    return kept


def test_the_names_are_the_fields():
    assert NAMES == ("time", "residuals", "traces", "parameters", "margins")
    assert tuple(stack().tensors()) == NAMES


def test_one_model_then_one_of_its_windows():
    kept = stack()
    for name, tensor in kept.tensors().items():
        assert torch.equal(kept[0].tensors()[name], tensor[0])
        assert torch.equal(kept[0][2].tensors()[name], tensor[0, 2])


def test_windows_are_those_that_training_reached():
    kept = stack()
    assert [float(window.time) for window in kept[0].windows()] == [1.0, 2.0, 5.0]
    assert [float(window.time) for window in kept[1].windows()] == [1.0, 3.0]
    assert torch.equal(kept[1].windows()[1].parameters, kept.parameters[1, 1])


def test_the_mean_is_weighted_by_time_and_passes_over_what_was_not_reached():
    r = stack().residuals
    torch.testing.assert_close(stack()[0].mean_residuals, (r[0, 0] + 2 * r[0, 1] + 5 * r[0, 2]) / 8)
    torch.testing.assert_close(stack()[1].mean_residuals, (r[1, 0] + 3 * r[1, 1]) / 4)


def test_a_way_of_no_step_has_no_windows():
    kept = stack()
    kept.time.zero_()
    assert kept[0].windows() == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_to_the_dtype_of_another_tensor(dtype: torch.dtype):
    moved = stack().to(torch.zeros(1, dtype=dtype))
    assert {tensor.dtype for tensor in moved.tensors().values()} == {dtype}
    assert torch.equal(moved.parameters, stack().parameters.to(dtype))


def test_margins_need_not_be_kept():
    bare = replace(stack(), margins=None)
    assert tuple(bare.tensors()) == NAMES[:-1]
    assert bare[0][1].margins is None
    assert bare.to(torch.zeros(1)).of_first(2).margins is None
    assert torch.equal(stack()[0].of_first(2).margins, stack().margins[0, :, :2])
