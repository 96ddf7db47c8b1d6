"""MNIST in environments, one of which is met only after training: ColoredMNIST, RotatedMNIST.

A loader gives training and test examples of the same environments; `<loader>_shifted` gives
those of the environment that training never sees. The test images of MNIST are shared out, every
other one to each, so that what is chosen by the test part is chosen without the shifted one.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer, Shaped
from torch import Generator, Tensor
from torch.nn import functional as F

from gentheory.data.idx import block_side, mnist_images
from gentheory.data.images import LabelledImages, image_splits
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.seeds import generator

LABEL_NOISE = 0.25
COLOUR_FLIPS = (0.1, 0.2)
"""How often colour and label disagree in each training environment of ColoredMNIST."""
SHIFTED_FLIP = 0.9
ANGLES = (0, 15, 30, 45, 60, 75)
"""Degrees of RotatedMNIST's environments."""


def colored_mnist(*, root: str | Path | None = None, downsize: int = 14) -> tuple[Split, Split]:
    """ColoredMNIST (Arjovsky et al. 2019) as (train, test); inputs [N, 2, side, side], 2 classes.

    The label is whether the digit is 5 or more, wrong with probability 0.25, for good: so no
    classifier by shape is right more often than 0.75. The digit is drawn in one of two channels,
    its colour, which is the label but for a flip with probability 0.1 in the first training
    environment and 0.2 in the second, so that colour alone is right in 0.85. Images belong to
    the environments in turn. The test part has the same environments; in
    `colored_mnist_shifted` the flip has probability 0.9. Sizes: 60,000, 5,000 and 5,000.

    Labels and colours are drawn once, the same in every process. `root`, `downsize`, the scaling
    (over both channels) and the errors are those of `mnist`.
    """
    train, test, _ = _colored(root, downsize)
    white = 255 * block_side(downsize) ** 2
    return image_splits(train, test, white=white, num_classes=2, name="colored_mnist")


def colored_mnist_shifted(*, root: str | Path | None = None, downsize: int = 14) -> Split:
    """The environment of `colored_mnist` where the colour is against the label in 9 of 10."""
    train, _, shifted = _colored(root, downsize)
    white = 255 * block_side(downsize) ** 2
    return _last(train, shifted, white=white, num_classes=2, name="colored_mnist")


def rotated_mnist(
    *, root: str | Path | None = None, downsize: int = 14, held_out: int = 75
) -> tuple[Split, Split]:
    """RotatedMNIST (Ghifary et al. 2015) as (train, test); inputs [N, 1, side, side], 10 classes.

    Each image is turned counter-clockwise by one of the five angles 0, 15, … 75 degrees other
    than `held_out`, which go in turn; `rotated_mnist_shifted` is turned by `held_out`. Images are
    turned at 28 × 28 pixels by bilinear interpolation, then pooled. Sizes: 60,000, 5,000, 5,000.
    `root`, `downsize`, the scaling and the errors are those of `mnist`; raises `InputError` for
    another angle too.
    """
    train, test, _ = _rotated(root, downsize, held_out)
    return image_splits(train, test, white=255, num_classes=10, name="rotated_mnist")


def rotated_mnist_shifted(
    *, root: str | Path | None = None, downsize: int = 14, held_out: int = 75
) -> Split:
    """The images of the angle that `rotated_mnist` holds out."""
    train, _, shifted = _rotated(root, downsize, held_out)
    return _last(train, shifted, white=255, num_classes=10, name="rotated_mnist")


def colored(
    images: Shaped[np.ndarray, "N ..."],
    digits: Integer[np.ndarray, " N"],
    flips: Float[Tensor, " N"],
    generator: Generator,
) -> LabelledImages:
    """Two-channel images [N, 2, H, W] with noisy labels [N] in {0, 1}, as in `colored_mnist`.

    `flips` is the probability, for each image, that its colour is not its label.
    """
    labels = torch.from_numpy(digits >= 5) ^ _coins(torch.full_like(flips, LABEL_NOISE), generator)
    colours = labels ^ _coins(flips, generator)
    found = np.zeros((len(images), 2, *images.shape[2:]), images.dtype)
    found[np.arange(len(images)), colours.int().numpy()] = images[:, 0]
    return found, labels.long().numpy()


def rotated(images: Float[Tensor, "N ..."], degrees: float) -> Float[Tensor, "N ..."]:
    """Images [N, height, width] turned counter-clockwise about their centres, 0 beyond edges."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]], dtype=torch.float64)
    # One grid for all: to the interpolation the images are channels of a single one.
    grid = F.affine_grid(turn, [1, 1, *images.shape[1:]], align_corners=False).to(images)
    return F.grid_sample(images[None], grid, padding_mode="zeros", align_corners=False)[0]


def _coins(probabilities: Float[Tensor, " N"], generator: Generator) -> Tensor:
    return torch.rand(len(probabilities), generator=generator) < probabilities


def _colored(
    root: str | Path | None, downsize: int
) -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    train, held = mnist_images(root, downsize)
    parts: tuple[tuple[str, LabelledImages, tuple[float, ...]], ...] = (
        ("train", train, COLOUR_FLIPS),
        ("test", _half(held, 0), COLOUR_FLIPS),
        ("shifted", _half(held, 1), (SHIFTED_FLIP,)),
    )
    first, second, third = (
        colored(*images, _in_turn(flips, len(images[1])), generator("colored_mnist", part))
        for part, images, flips in parts
    )
    return first, second, third


def _rotated(
    root: str | Path | None, downsize: int, held_out: int
) -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    if held_out not in ANGLES:
        expected = f"one of {', '.join(map(str, ANGLES))}"
        raise InputError("data.held_out", f"{held_out}", expected, "give one of these")
    block = block_side(downsize)
    train, held = mnist_images(root, 28)
    seen = tuple(angle for angle in ANGLES if angle != held_out)
    parts = ((train, seen), (_half(held, 0), seen), (_half(held, 1), (held_out,)))
    first, second, third = (_turned(*images, angles, block) for images, angles in parts)
    return first, second, third


def _turned(
    images: Shaped[np.ndarray, "N ..."],
    labels: Integer[np.ndarray, " N"],
    angles: tuple[int, ...],
    block: int,
) -> LabelledImages:
    """Images turned by these angles in turn, then pooled."""
    pixels = torch.from_numpy(images[:, 0].astype(np.float32))
    for place, angle in enumerate(angles):
        pixels[place :: len(angles)] = rotated(pixels[place :: len(angles)], angle)
    return F.avg_pool2d(pixels[:, None], block).numpy(), labels


def _half(part: LabelledImages, start: int) -> LabelledImages:
    # In turn, since the first half of MNIST's test images is the easier one.
    return part[0][start::2], part[1][start::2]


def _in_turn(values: tuple[float, ...], count: int) -> Float[Tensor, " N"]:
    return torch.tensor(values)[torch.arange(count) % len(values)]


def _last(
    train: LabelledImages, shifted: LabelledImages, *, white: int, num_classes: int, name: str
) -> Split:
    """Scaled as the training part is."""
    _, split = image_splits(train, shifted, white=white, num_classes=num_classes, name=name)
    return replace(split, name=f"{name}.shifted")
