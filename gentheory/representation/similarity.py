"""How features lie on the sphere, and how alike two sets of features of the same examples are.

Everything is a function of feature vectors in float64 or of their Gram matrices, so that leaving
some examples out, as the jackknife does, is taking rows.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

GROUPS = 20
"""Of the delete-a-group jackknife."""


def jackknife(statistic: Callable[[Tensor], float], count: int, generator: Generator) -> float:
    """Standard error of a statistic of the indices of `count` independent examples.

    Delete-a-group: √((g − 1)/g Σ (s_g − s̄)²) over at most `GROUPS` random groups of nearly equal
    size, each left out once; nan for a single example.
    """
    if count < 2:
        return math.nan
    order = torch.randperm(count, generator=generator, device=generator.device).cpu()
    groups = order.tensor_split(min(GROUPS, count))
    left = [torch.cat([g for g in groups if g is not out]).sort().values for out in groups]
    values = torch.tensor([statistic(index) for index in left], dtype=torch.float64)
    return float(((len(groups) - 1) * values.var(correction=0)).sqrt())


def on_sphere(features: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "n D"], Bool[Tensor, " N"]]:
    """Features of unit norm, of the examples that have any, and which those are."""
    norms = features.norm(dim=1)
    there = norms > 0
    return features[there] / norms[there, None], there


def squared_distances(units: Float[Tensor, "N D"]) -> Float[Tensor, "N N"]:
    """|x − y|² = 2 − 2 x·y of unit vectors, 0 of a vector to itself, none below 0."""
    squares = (2 - 2 * units @ units.T).clamp(min=0)
    return squares.fill_diagonal_(0)


def alignment(squares: Float[Tensor, "N N"], positive: Bool[Tensor, "N N"], power: float) -> float:
    """Mean of |x − y|^power over the positive pairs of two examples; nan where there are none."""
    pairs = positive.clone().fill_diagonal_(False)
    return float(squares[pairs].pow(power / 2).mean())


def uniformity(squares: Float[Tensor, "N N"], t: float) -> float:
    """log of the mean of exp(−t |x − y|²) over all pairs of two examples."""
    count = len(squares)
    total = squares.mul(-t).exp_().sum() - count
    return float((total / (count * (count - 1))).log())


def wasserstein(units: Float[Tensor, "N D"]) -> float:
    """√(|μ|² + 1 + tr Σ − 2 tr Σ^½ / √m), from N(μ, Σ) to N(0, I / m) in m dimensions.

    Σ is the covariance with 1/n, so that repeating every example changes nothing. Of unit vectors
    |μ|² + tr Σ = 1. Eigenvalues below rounding count as 0: their roots would not be rounding.
    """
    count, dimension = units.shape
    mean = units.mean(0)
    deviations = units - mean
    # The two Gram matrices share their positive eigenvalues.
    wide = dimension > count
    gram = deviations @ deviations.T if wide else deviations.T @ deviations
    values = torch.linalg.eigvalsh(gram) / count
    noise = len(values) * torch.finfo(values.dtype).eps * values.abs().max()
    roots = torch.where(values > noise, values, 0.0).sqrt().sum()
    square = mean.square().sum() + 1 + gram.trace() / count - 2 * roots / math.sqrt(dimension)
    return float(square.clamp(min=0).sqrt())


def gram(features: Float[Tensor, "N D"]) -> Float[Tensor, "N N"]:
    """Of the features less their mean, which says the same to any centred similarity."""
    features = features - features.mean(0)
    return features @ features.T


def cka(one: Float[Tensor, "N N"], other: Float[Tensor, "N N"], *, debiased: bool) -> float:
    """HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) of two kernels on the same examples.

    With HSIC = tr(K H L H), or debiased the U-statistic of Song et al. (2012), whose expectation
    is 0 for independent features however many there are; that one needs four examples and may be
    negative. nan where a kernel is constant.
    """
    product = _unbiased if debiased else _plain
    return float(product(one, other) / (product(one, one) * product(other, other)).sqrt())


def deconfounded(
    kernel: Float[Tensor, "N N"], inputs: Float[Tensor, "N N"], *, off_diagonal: bool = False
) -> Float[Tensor, "N N"]:
    """What is left of vec(K) after least squares on [1, vec(K_inputs)].

    With `off_diagonal` the diagonals, which the debiased HSIC does not look at, do not count.
    """
    weight = torch.ones_like(kernel)
    if off_diagonal:
        weight.fill_diagonal_(0)
    weight /= weight.sum()
    level = (weight * kernel).sum()
    centred = inputs - (weight * inputs).sum()
    size = (weight * centred.square()).sum()
    slope = (weight * centred * kernel).sum() / size if size > 0 else size
    return kernel - level - slope * centred


def _plain(one: Float[Tensor, "N N"], other: Float[Tensor, "N N"]) -> Tensor:
    return (_centred(one) * _centred(other)).sum()


def _centred(kernel: Float[Tensor, "N N"]) -> Float[Tensor, "N N"]:
    kernel = kernel - kernel.mean(0)
    return kernel - kernel.mean(1, keepdim=True)


def _unbiased(one: Float[Tensor, "N N"], other: Float[Tensor, "N N"]) -> Tensor:
    """n (n − 3) times HSIC₁, by the products of sums of rows: no product of matrices."""
    n = len(one)
    one, other = (kernel.clone().fill_diagonal_(0) for kernel in (one, other))
    rows, others = one.sum(1), other.sum(1)
    means = rows.sum() * others.sum() / ((n - 1) * (n - 2))
    return (one * other).sum() + means - 2 / (n - 2) * (rows @ others)
