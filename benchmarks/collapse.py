"""Neural collapse of 50,000 examples with 512 features in ten classes: NC1 to NC4 and CDNV.

The features are made, batch by batch: what is compared is the metrics, not a net's forward pass.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.contest import OURS, Comparison, Job
from benchmarks.nets import Problem
from gentheory.collapse import frames
from gentheory.collapse.moments import class_moments

_EXAMPLES, _FEATURES, _CLASSES, _BATCH = 50_000, 512, 10, 1000


class _Made:
    """Features [B, D] in float32 and classes [B], as batches that are read again and again."""

    def __init__(self, device: torch.device, count: int) -> None:
        stream = torch.Generator().manual_seed(0)
        self.means = 2 * torch.randn(_CLASSES, _FEATURES, generator=stream).to(device)
        self.noise = torch.randn(_BATCH, _FEATURES, generator=stream).to(device)
        self.targets = torch.randint(_CLASSES, (count,), generator=stream).to(device)
        self.weight = self.means - self.means.mean(0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index, targets in enumerate(self.targets.split(_BATCH)):
            spread = 1 + 0.01 * index
            yield self.means[targets] + spread * self.noise[: len(targets)], targets


def _made(problem: Problem) -> _Made:
    """All examples; few of them where the problem is a small one."""
    return _Made(problem.device, _EXAMPLES if len(problem.x) > 4 else _BATCH)


def ours(problem: Problem) -> Job:
    """One pass for the moments, one for the nearest class means."""
    made = _made(problem)

    def run() -> Tensor:
        found = class_moments(made, _CLASSES)
        assert found.within is not None
        centred = frames.centred(found.means)
        numbers = [
            frames.within_over_between(found.means, found.within),
            frames.norm_variation(centred),
            frames.angle_deviation(centred),
            frames.gram_distance(centred, frames.simplex(_CLASSES, centred)),
            frames.duality_distance(made.weight.double(), centred),
            frames.distance_normalized_variances(found.means, found.variances).mean(),
            _mismatch(made, found.means),
        ]
        return torch.stack(numbers)

    return Job(run)


def _mismatch(made: _Made, means: Tensor) -> Tensor:
    centre = means.mean(0)
    rows = means - centre
    wrong = means.new_zeros(())
    for features, _ in made:
        products = (features.double() - centre) @ rows.T
        nearest = (rows.square().sum(1) - 2 * products).argmin(1)
        wrong += (nearest != (features @ made.weight.T).argmax(1)).sum()
    return wrong / len(made.targets)


def plain(problem: Problem) -> Job:
    """All features at once in float64, as the definitions stand."""
    made = _made(problem)

    def run() -> Tensor:
        features = torch.cat([features for features, _ in made])
        return _plain(features, made.targets, made.weight)

    return Job(run)


def _plain(features: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    h, count = features.double(), _CLASSES
    means = torch.stack([h[targets == c].mean(0) for c in range(count)])
    centred = h - means[targets]
    within = centred.T @ centred / len(h)
    m = means - means.mean(0)
    values, vectors = torch.linalg.eigh(m.T @ m / count)  # the top K − 1, as Papyan's notebook
    inverse = (vectors[:, 1 - count :] / values[1 - count :]) @ vectors[:, 1 - count :].T
    norms = m.norm(dim=1)
    cosines = F.normalize(m) @ F.normalize(m).T
    off = ~torch.eye(count, dtype=torch.bool, device=h.device)
    simplex = torch.eye(count).to(h) - 1 / count
    gram, w = m @ m.T, weight.double()
    squares = torch.stack([centred[targets == c].square().sum(1).mean() for c in range(count)])
    apart = torch.cdist(means, means).square()
    nearest = torch.cdist(h, means).argmin(1)
    return torch.stack(
        [
            torch.trace(within @ inverse) / count,
            norms.std() / norms.mean(),
            (cosines + 1 / (count - 1))[off].abs().mean(),
            (gram / gram.norm() - simplex / simplex.norm()).norm(),
            (w / w.norm() - m / m.norm()).norm(),
            ((squares[:, None] + squares) / (2 * apart))[off].mean(),
            (nearest != (features @ weight.T).argmax(1)).double().mean(),
        ]
    )


COMPARISONS = [
    Comparison(
        work="neural collapse, 50,000 × 512 features",
        net="small",
        contestants={OURS: ours, "PyTorch": plain},
        target=1.5,
        tolerance=1e-8,
        notes={"PyTorch": "all features at once in float64; S_B⁺ by eigh"},
    )
]
