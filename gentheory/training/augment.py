"""Augmentation of the batches of a stack, each model by its own generator.

Only the steps of training see augmented examples. The training loss after an epoch, the curve,
the target and every measure are those of the training examples as they are, with their own
labels: not the objective that was minimized, whose curvature and gradients differ from theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.special import betaincinv
from torch import Generator, Tensor
from torch.nn import functional as F

from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.losses import one_hot


@dataclass(frozen=True)
class Augmentation:
    """What is done to a batch: crops, then flips, then mixup."""

    mixup: float = 0.0
    """The α of `mixed`; 0 for none."""
    flips: bool = False
    crops: int = 0
    """The padding of `cropped` in pixels; 0 for none."""

    @property
    def present(self) -> bool:
        """Whether anything is done."""
        return bool(self.mixup or self.flips or self.crops)

    def check(self, data: Split) -> None:
        """Raise `InputError` where images are to be flipped or cropped and there are none."""
        if (self.flips or self.crops) and len(data.shape) != 3:
            raise InputError(
                "flips" if self.flips else "crops",
                f"{data.name} with examples of shape {tuple(data.shape)}",
                "images of shape (channels, height, width)",
                "drop flips and crops, or use images",
            )

    def apply(
        self,
        inputs: Float[Tensor, "M B ..."],
        targets: Int[Tensor, "M B"],
        generators: Sequence[Generator],
        *,
        num_classes: int,
    ) -> tuple[Float[Tensor, "M B ..."], Tensor]:
        """The batch as it is trained on; targets become probabilities [M, B, C] under mixup."""
        if self.crops:
            inputs = cropped(inputs, self.crops, generators)
        if self.flips:
            inputs = flipped(inputs, generators)
        if self.mixup:
            classes = inputs.new_empty(*targets.shape, num_classes)
            return mixed(inputs, one_hot(targets, classes), self.mixup, generators)
        return inputs, targets


def mixed(
    inputs: Float[Tensor, "M B ..."],
    targets: Float[Tensor, "M B C"],
    alpha: float,
    generators: Sequence[Generator],
) -> tuple[Float[Tensor, "M B ..."], Float[Tensor, "M B C"]]:
    """Mixup: λ x + (1 − λ) x′ with targets λ y + (1 − λ) y′ (Zhang et al. 2018).

    For each model one λ ~ Beta(α, α) a batch, and x′, y′ the same batch in random order.
    """
    count, size = targets.shape[:2]
    draws = [
        (torch.rand((), generator=g, dtype=torch.float64), torch.randperm(size, generator=g))
        for g in generators
    ]
    quantiles = torch.stack([quantile for quantile, _ in draws])
    share = torch.from_numpy(betaincinv(alpha, alpha, quantiles.numpy())).to(inputs)
    others = torch.stack([order for _, order in draws]).to(inputs.device)
    rows = torch.arange(count, device=inputs.device)[:, None]

    def between(values: Tensor) -> Tensor:
        weight = share.view(-1, *[1] * (values.ndim - 1))
        return values[rows, others].lerp(values, weight)

    return between(inputs), between(targets)


def flipped(
    images: Float[Tensor, "M B ..."], generators: Sequence[Generator]
) -> Float[Tensor, "M B ..."]:
    """Each image [channels, height, width] mirrored left to right with probability 1/2."""
    size = images.shape[1]
    coins = torch.stack([torch.rand(size, generator=g) < 0.5 for g in generators])
    return torch.where(coins.to(images.device)[..., None, None, None], images.flip(-1), images)


def cropped(
    images: Float[Tensor, "M B ..."], padding: int, generators: Sequence[Generator]
) -> Float[Tensor, "M B ..."]:
    """Each image shifted by whole pixels, uniform in −padding .. padding both ways.

    That is a crop of the image's size from the image with `padding` zeros on every side, where 0
    is the mean over all training pixels in data that were scaled by it.
    """
    (height, width), size = images.shape[-2:], images.shape[1]
    span = 2 * padding + 1
    starts = torch.stack([torch.randint(span, (size, 2), generator=g) for g in generators])
    down, right = starts.to(images.device)[..., None].unbind(2)
    rows = down + torch.arange(height, device=images.device)
    columns = right + torch.arange(width, device=images.device)
    padded = F.pad(images, (padding,) * 4)
    at = rows[:, :, None, :, None].expand(*images.shape[:-1], padded.shape[-1])
    return padded.gather(-2, at).gather(-1, columns[:, :, None, None].expand(images.shape))
