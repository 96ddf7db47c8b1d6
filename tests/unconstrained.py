"""Unconstrained features models solved numerically: features are free, as if a net could give any.

Nothing is taken from gentheory but the risk that its results are handed in as: a linear layer on
features that are the inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gentheory as gt
from gentheory.checkpoint import Checkpoint


@dataclass(frozen=True)
class Model:
    weight: Tensor  # [C, D]
    features: Tensor  # [N, D]
    targets: Tensor  # [N]
    bias: Tensor | None = None

    def checkpoint(self, loss: str, weight_decay: float = 0.0) -> Checkpoint:
        """The classifier, given the features as its inputs."""
        return linear(self.weight, self.features, self.targets, self.bias, loss, weight_decay)


def linear(
    weight: Tensor,
    features: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    loss: str = "cross_entropy",
    weight_decay: float = 0.0,
    batch_size: int = 64,
) -> Checkpoint:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).to(weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    options = {"weight_decay": weight_decay, "batch_size": batch_size}
    return Checkpoint(gt.EmpiricalRisk(layer, loss, (features, targets), **options))


def least_squares(
    counts: Sequence[int], classifier_decay: float, feature_decay: float, size: int
) -> Model:
    """(1/2N) ‖W H − Y‖² + λ_W/2 ‖W‖² + λ_H/2 ‖H‖², by exact minimization in W and H in turn."""
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    total, y = len(targets), F.one_hot(targets).double()
    features = _random(total, size)
    eye = torch.eye(size).double()
    weight = _random(len(counts), size)
    for _ in range(20_000):
        before = weight
        gram = features.T @ features + total * classifier_decay * eye
        weight = torch.linalg.solve(gram, features.T @ y).T
        features = y @ weight @ torch.linalg.inv(weight.T @ weight + total * feature_decay * eye)
        if (weight - before).norm() <= 1e-13 * weight.norm():
            break
    return Model(weight, features, targets)


def cross_entropy(num_classes: int, each: int, size: int, decay: float) -> Model:
    """Mean cross-entropy of W h + b, + decay/2 (‖W‖² + ‖H‖²/each + ‖b‖²), by L-BFGS."""
    targets = torch.arange(num_classes).repeat_interleave(each)
    leaves = [_random(num_classes, size), _random(len(targets), size), torch.zeros(num_classes)]
    weight, features, bias = (leaf.double().requires_grad_() for leaf in leaves)
    optimizer = torch.optim.LBFGS(
        [weight, features, bias],
        max_iter=3000,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, targets)
        squares = weight.square().sum() + features.square().sum() / each + bias.square().sum()
        total = loss + decay / 2 * squares
        total.backward()
        return total

    optimizer.step(closure)
    return Model(weight.detach(), features.detach(), targets, bias.detach())


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).double()
