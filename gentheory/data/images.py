"""From raw pixels to splits: one shift and one scale for all, taken from the training part."""

import math
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float32, Integer, Shaped
from torch import Tensor

from gentheory.data.split import Split
from gentheory.errors import InputError

# The two parts differ in length, so no letter may tie them together.
LabelledImages: TypeAlias = tuple[Shaped[np.ndarray, "_ ..."], Integer[np.ndarray, " _"]]


def image_splits(
    train: LabelledImages, test: LabelledImages, *, white: int, num_classes: int, name: str
) -> tuple[Split, Split]:
    """Both parts as (x / white - mean) / deviation, with the training part's own two numbers.

    `white` is the raw value of a white pixel, so that x / white lies in [0, 1]; mean and
    (population) standard deviation are scalars over all pixels of all training images.
    Raises `InputError` where all training pixels are equal, and as `Split` does.
    """
    train_pixels, test_pixels = _unit(train[0], white), _unit(test[0], white)
    _standardize_(train_pixels, test_pixels, name=name)
    return (
        Split(train_pixels, _labels(train), num_classes, f"{name}.train"),
        Split(test_pixels, _labels(test), num_classes, f"{name}.test"),
    )


def _unit(images: Shaped[np.ndarray, "N ..."], white: int) -> Float32[Tensor, "N ..."]:
    return torch.from_numpy(images.astype(np.float32)).div_(white)


def _labels(part: LabelledImages) -> Tensor:
    return torch.from_numpy(part[1].astype(np.int64))


def _standardize_(
    train: Float32[Tensor, "N ..."], test: Float32[Tensor, "B ..."], *, name: str
) -> None:
    # Sums within one image in float32, over images in float64: exact enough without a copy.
    mean = train.flatten(1).mean(1).double().mean().item()
    train.sub_(mean)
    squares = torch.linalg.vector_norm(train.flatten(1), dim=1).double().square().sum().item()
    if squares == 0:
        raise InputError(
            f"{name}.train",
            "pixels that are all equal",
            "images that differ",
            "check the files, or use another data set",
        )
    deviation = math.sqrt(squares / train.numel())
    train.div_(deviation)
    test.sub_(mean).div_(deviation)
