"""Areas under the margin, and the threshold of a class that is none."""

import pytest
import torch
from torch import nn
from training_loops import plan

from gentheory import losses, mislabelled
from gentheory.data import load
from gentheory.data.corruptions import label_noise
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.params import flatten
from gentheory.seeds import generator
from gentheory.training.loop import train
from gentheory.trajectory import Trajectory

MARGINS = torch.tensor([[1.0, -1.0], [2.0, 3.0], [torch.nan, torch.nan]]).double()
TIME = torch.tensor([1.0, 3.0, 0.0]).double()


def kept(margins: torch.Tensor | None = MARGINS) -> Trajectory:
    return Trajectory(TIME, torch.zeros(3, 2, 2), torch.zeros(3, 2), torch.zeros(3, 4), margins)


def test_areas_are_means_weighted_by_time_over_the_windows_reached():
    torch.testing.assert_close(mislabelled.areas(kept()), torch.tensor([1.75, 2.0]).double())
    first = mislabelled.areas(kept(), windows=1)
    assert first.tolist() == [1.0, -1.0]


@pytest.mark.parametrize("trajectory", [None, kept(None)])
def test_without_margins_the_cure_is_named(trajectory: Trajectory | None):
    with pytest.raises(InputError, match="train with keep_trajectory"):
        mislabelled.areas(trajectory)


@pytest.mark.parametrize("windows", [0, 3])
def test_windows_that_training_did_not_reach_are_refused(windows: int):
    with pytest.raises(InputError, match=f"found {windows}, expected 1 to 2"):
        mislabelled.areas(kept(), windows=windows)


def test_a_fake_class_is_as_large_as_a_class_of_its_own():
    y = torch.arange(44) % 10
    targets, fake = mislabelled.with_fake_class(y, 10, generator=generator(0))
    assert int(fake.sum()) == 4
    assert torch.equal(targets[fake], torch.full((4,), 10))
    assert torch.equal(targets[~fake], y[~fake])
    with pytest.raises(InputError, match="found 4 examples, expected 11 or more"):
        mislabelled.with_fake_class(y[:4], 10, generator=generator(0))


def test_suspects_lie_below_the_quantile_of_the_fake_class():
    areas = torch.arange(10).double()
    fake = torch.tensor([1, 0, 0, 0, 1, 0, 0, 0, 0, 0]).bool()
    assert mislabelled.threshold(areas, fake, share=0.5) == 2.0
    assert mislabelled.threshold(areas, fake) == pytest.approx(3.96)
    assert mislabelled.suspects(areas, fake).nonzero()[:, 0].tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="no example of the fake class"):
        mislabelled.threshold(areas, torch.zeros(10).bool())


def test_wrong_labels_of_digits_have_the_smaller_areas():
    data = load("digits")[0].take(torch.arange(500))
    noisy = label_noise(data.targets, 0.3, num_classes=10, generator=generator("noise"))
    targets, fake = mislabelled.with_fake_class(noisy, 10, generator=generator("fake"))
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 11))
    chosen = plan(
        [0.1], epochs=20, batch_size=32, weight_decay=torch.zeros(1), keep_trajectory=True
    )
    start = flatten(net)[None].float()
    split = Split(data.inputs, targets, 11, "noisy digits")
    found = train(net, losses.cross_entropy, start, split, chosen, [generator("order")])
    assert found.trajectory is not None
    areas = mislabelled.areas(found.trajectory[0])
    wrong = (noisy != data.targets) & ~fake
    right = ~wrong & ~fake
    above = (areas[right][:, None] > areas[wrong]).double().mean()  # AUROC
    assert above > 0.95
    flagged = mislabelled.suspects(areas, fake)
    assert flagged[wrong].double().mean() > 0.8
    assert flagged[right].double().mean() < 0.3
