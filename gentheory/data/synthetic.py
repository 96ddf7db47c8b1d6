"""Data whose distribution is known, so that measures can be held against closed forms."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.seeds import generator


def gaussian_classes(
    *,
    num_train: int,
    num_test: int,
    num_features: int,
    num_classes: int,
    separation: float,
    seed: int,
) -> tuple[Split, Split]:
    """C Gaussian classes with unit covariance, as (train, test); inputs [N, D].

    Targets are uniform and independent, and x | c ~ N(μ_c, I) with the means of `class_means`.
    Softmax regression is well specified: log p(c | x) = μ_c·x - |μ_c|²/2 + constant. With two
    classes the Bayes error is Φ(-separation / 2). Means, training and test part have streams of
    their own: a change of `num_train` leaves the test part as it was.
    Raises `InputError` for a size below 1, fewer than 2 classes, or a separation that is negative
    or not finite.
    """
    for option, count in (("num_train", num_train), ("num_test", num_test)):
        _check_count(option, count, 1)
    means = class_means(
        num_features=num_features, num_classes=num_classes, separation=separation, seed=seed
    )
    return _draw(means, num_train, "train", seed), _draw(means, num_test, "test", seed)


def class_means(
    *, num_features: int, num_classes: int, separation: float, seed: int
) -> Float64[Tensor, "C D"]:
    """The means μ of `gaussian_classes`: in random directions, with their average at 0.

    They are drawn from N(0, I), centred, and scaled so that the root mean square distance of two
    of them is exactly `separation`, in units of the standard deviation within a class.
    Raises `InputError` as `gaussian_classes` does.
    """
    _check_count("num_features", num_features, 1)
    _check_count("num_classes", num_classes, 2)
    if not 0 <= separation < math.inf:
        raise InputError("data.separation", f"{separation}", "0 or more, finite", "change it")
    stream = generator("gaussian_classes", "means", seed)
    means = torch.randn(num_classes, num_features, generator=stream, dtype=torch.float64)
    means -= means.mean(0)
    # Of centred means, the squared distances over all C(C - 1) ordered pairs sum to 2C Σ|μ|².
    distance = (2 * means.square().sum() / (num_classes - 1)).sqrt()
    return means * (separation / distance)


def polynomial(
    *, num_train: int, num_test: int, num_features: int, seed: int
) -> tuple[Split, Split]:
    """y = (β·x)² / 2 with x ~ N(0, I / D) and |β|² = D, as (train, test); inputs [N, D].

    A real target, [N, 1]: regression, for nets of one output under "mse". A kernel that is nearly
    linear needs about D² examples to learn it, features that turn towards β about D (Kumar et al.
    2023, arXiv 2310.06110). β, training and test part have streams of their own.
    Raises `InputError` for a size below 1.
    """
    for option, count in (
        ("num_train", num_train),
        ("num_test", num_test),
        ("num_features", num_features),
    ):
        _check_count(option, count, 1)
    beta = direction(num_features=num_features, seed=seed)
    return _square(beta, num_train, "train", seed), _square(beta, num_test, "test", seed)


def direction(*, num_features: int, seed: int) -> Float64[Tensor, " D"]:
    """The β of `polynomial`: in a random direction, of squared norm D."""
    stream = generator("polynomial", "direction", seed)
    beta = torch.randn(num_features, generator=stream, dtype=torch.float64)
    return beta * (math.sqrt(num_features) / beta.norm())


def _square(beta: Float64[Tensor, " D"], count: int, part: str, seed: int) -> Split:
    stream = generator("polynomial", part, seed)
    x = torch.randn(count, len(beta), generator=stream, dtype=torch.float64) / math.sqrt(len(beta))
    targets = (x @ beta).square()[:, None] / 2
    return Split(x.float(), targets.float(), 1, f"polynomial.{part}")


def _draw(means: Float64[Tensor, "C D"], count: int, part: str, seed: int) -> Split:
    stream = generator("gaussian_classes", part, seed)
    targets = torch.randint(len(means), (count,), generator=stream)
    noise = torch.randn(count, means.shape[1], generator=stream, dtype=torch.float64)
    inputs = (means[targets] + noise).float()
    return Split(inputs, targets, len(means), f"gaussian_classes.{part}")


def _check_count(option: str, count: int, least: int) -> None:
    if count < least:
        raise InputError(f"data.{option}", f"{count}", f"{least} or more", "give more")
