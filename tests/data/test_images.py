"""One scalar mean and deviation, of the training part, for both parts."""

import numpy as np
import pytest
import torch

from gentheory.data.images import image_splits
from gentheory.errors import InputError


def raw(num_examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(seed)
    images = stream.integers(0, 256, (num_examples, 2, 5, 5), dtype=np.uint8)
    return images, stream.integers(0, 4, num_examples, dtype=np.uint8)


def test_both_parts_get_the_training_parts_mean_and_deviation():
    parts = raw(40, seed=1), raw(30, seed=2)
    splits = image_splits(*parts, white=255, num_classes=4, name="noise")
    mean, deviation = (parts[0][0] / 255).mean(), (parts[0][0] / 255).std()
    for (images, labels), split in zip(parts, splits, strict=True):
        expected = torch.from_numpy((images / 255 - mean) / deviation)
        torch.testing.assert_close(split.inputs.double(), expected, rtol=0, atol=5e-7)
        assert split.targets.tolist() == labels.tolist()
    assert [split.name for split in splits] == ["noise.train", "noise.test"]


def test_raw_pixels_are_not_changed_even_when_they_are_float32():
    images, labels = raw(4, seed=3)
    images = images.astype(np.float32)
    kept = images.copy()
    image_splits((images, labels), (images, labels), white=255, num_classes=4, name="noise")
    np.testing.assert_array_equal(images, kept)


def test_blank_training_images_are_refused_by_name():
    blank = np.full((3, 2, 2), 7, np.uint8), np.zeros(3, np.uint8)
    with pytest.raises(InputError, match=r"blank\.train: found pixels that are all equal"):
        image_splits(blank, blank, white=255, num_classes=1, name="blank")
