"""ColoredMNIST and RotatedMNIST: what they do to made-up images, and real sizes."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from idx_files import fake
from scipy.stats import binomtest

from gentheory import data
from gentheory.data.environments import ANGLES, colored, rotated
from gentheory.data.recipe import Recipe
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.seeds import generator

FOLDER = os.environ.get("GENTHEORY_DATA", "")
real = pytest.mark.skipif(
    not (Path(FOLDER) / "MNIST" / "raw").is_dir() or not FOLDER,
    reason="GENTHEORY_DATA names no folder with MNIST/raw",
)


def plausible(hits: torch.Tensor, probability: float) -> bool:
    return binomtest(int(hits.sum()), len(hits), probability).pvalue > 1e-3


def colours(split: Split) -> torch.Tensor:
    """The brighter channel of each image."""
    return split.inputs.flatten(2).sum(2).argmax(1)


def test_a_digit_is_in_the_channel_of_its_colour_and_the_other_is_black():
    images = np.arange(1, 1 + 6 * 4, dtype=np.uint16).reshape(6, 1, 2, 2)
    found, labels = colored(images, np.arange(6), torch.zeros(6), generator("colours"))
    # Without flips the colour is the label, noise and all.
    for image, original, label in zip(found, images, labels, strict=True):
        np.testing.assert_array_equal(image[label], original[0])
        assert not image[1 - label].any()


def test_labels_are_wrong_in_a_quarter_and_colours_flip_as_often_as_told():
    count, stream = 20_000, generator("colour frequencies")
    digits = np.arange(count) % 10
    images = np.ones((count, 1, 1, 1), np.uint8)
    flips = torch.tensor([0.1, 0.9])[torch.arange(count) % 2]
    found, labels = colored(images, digits, flips, stream)
    wrong = torch.from_numpy(labels != (digits >= 5))
    flipped = torch.from_numpy(found[:, :, 0, 0].argmax(1) != labels)
    assert plausible(wrong, 0.25)
    assert plausible(flipped[::2], 0.1)
    assert plausible(flipped[1::2], 0.9)
    assert plausible(wrong & flipped, 0.25 * 0.5)


def test_colours_come_from_the_generator_given():
    images, digits = np.ones((50, 1, 2, 2), np.uint8), np.zeros(50, np.uint8)
    one, same, other = (
        colored(images, digits, torch.full((50,), 0.5), generator(seed))[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize(("degrees", "quarters"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_quarter_turns_are_exact(degrees: int, quarters: int):
    images = torch.rand(3, 14, 14, generator=generator("turns"))
    expected = torch.rot90(images, quarters, (1, 2))
    torch.testing.assert_close(rotated(images, degrees), expected, rtol=0, atol=2e-6)


def test_an_eighth_of_a_turn_moves_a_spot_to_where_it_belongs():
    image = torch.zeros(1, 29, 29)
    image[0, 14, 24] = 1.0  # ten pixels to the right of the middle
    found = rotated(image, 30)[0]
    rows, columns = torch.meshgrid(torch.arange(29.0), torch.arange(29.0), indexing="ij")
    assert (rows * found).sum() / found.sum() == pytest.approx(14 - 10 * 0.5, abs=0.1)
    assert (columns * found).sum() / found.sum() == pytest.approx(14 + 10 * 0.75**0.5, abs=0.1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A tiny MNIST of twelve images a part."""
    monkeypatch.setenv("GENTHEORY_DATA", str(tmp_path))
    return fake(tmp_path, labels=(*range(10), 0, 1))


def test_images_are_turned_in_turn_and_the_held_out_angle_is_elsewhere(folder: np.ndarray):
    train, test = data.load("rotated_mnist", downsize=28, held_out=0)
    shifted = data.load_shifted("rotated_mnist", downsize=28, held_out=0)
    assert shifted is not None
    pixels = torch.from_numpy(folder / 255).float()
    raw = torch.stack([rotated(pixels[i][None], ANGLES[1 + i % 5])[0] for i in range(12)])
    halves = torch.stack([rotated(pixels[2 * i][None], ANGLES[1 + i % 5])[0] for i in range(6)])
    mean, deviation = raw.mean(), raw.std(correction=0)
    for split, expected in ((train, raw), (test, halves), (shifted, pixels[1::2])):
        scaled = (expected - mean) / deviation
        torch.testing.assert_close(split.inputs[:, 0], scaled, rtol=0, atol=1e-4)
    assert shifted.targets.tolist() == [1, 3, 5, 7, 9, 1]
    assert (train.name, shifted.name) == ("rotated_mnist.train", "rotated_mnist.shifted")


@pytest.mark.parametrize("name", ["colored_mnist", "rotated_mnist"])
@pytest.mark.parametrize("side", [28, 14, 7])
def test_sides_and_sizes(folder: np.ndarray, name: str, side: int):
    train, test = data.load(name, downsize=side)
    shifted = data.load_shifted(name, downsize=side)
    assert shifted is not None
    channels = 2 if name == "colored_mnist" else 1
    assert [len(s) for s in (train, test, shifted)] == [len(folder), 6, 6]
    assert tuple(train.shape) == tuple(shifted.shape) == (channels, side, side)
    assert train.inputs.mean() == pytest.approx(0, abs=1e-5)
    assert train.inputs.std(correction=0) == pytest.approx(1, abs=1e-5)


def test_a_data_set_without_a_shift_has_none():
    assert data.load_shifted("digits") is None
    assert Recipe("digits").shifted_test() is None


def test_wrong_options_are_named(folder: np.ndarray):
    with pytest.raises(InputError, match=r"data\.held_out: found 20, expected one of 0, 15, 30"):
        data.load("rotated_mnist", held_out=20)
    with pytest.raises(InputError, match=r"data\.downsize: found 9, expected 28, 14 or 7"):
        data.load("rotated_mnist", downsize=9)
    with pytest.raises(InputError, match=r"data\.held_out: found this option, expected colored_m"):
        data.load_shifted("colored_mnist", held_out=15)


@pytest.mark.parametrize("name", ["colored_mnist_shifted", "imagenet"])
def test_the_shifted_part_is_no_data_set_of_its_own(name: str):
    with pytest.raises(InputError, match=f"data.name: found '{name}', expected one of cifar10, co"):
        data.load_shifted(name)


def test_a_recipe_has_the_same_share_of_wrong_labels_on_shifted_data(folder: np.ndarray):
    recipe = Recipe("rotated_mnist", n_train=6, label_noise=0.5)
    noisy, clean = recipe.shifted_test(), Recipe("rotated_mnist").shifted_test()
    assert noisy is not None
    assert clean is not None
    assert int((noisy.targets != clean.targets).sum()) == 3


@real
@pytest.mark.mnist
def test_real_sizes_and_colours():
    train, test = data.load("colored_mnist", downsize=7)
    shifted = data.load_shifted("colored_mnist", downsize=7)
    assert shifted is not None
    assert [len(s) for s in (train, test, shifted)] == [60_000, 5_000, 5_000]
    for split, flips in ((train, (0.1, 0.2)), (test, (0.1, 0.2)), (shifted, (0.9, 0.9))):
        flipped = colours(split) != split.targets
        assert plausible(flipped[::2], flips[0])
        assert plausible(flipped[1::2], flips[1])
