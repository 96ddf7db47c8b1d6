"""The gradient of a whole stack on one batch: what every step of training costs."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentheory.losses import cross_entropy
from gentheory.params import Layout
from gentheory.training.apart import apart, faster_apart
from gentheory.training.tape import stacked

Objective: TypeAlias = Callable[[Tensor, Any], Tensor]
"""(outputs [B, C] of one model, its targets) -> the number to go down; run under `vmap`.

Targets are a tensor [B, ...] or a tree of such tensors, each with the stack's axis before it.
"""


@runtime_checkable
class StackedGradient(Protocol):
    """Gradients of M models, each at its own parameters and on its own batch."""

    def __call__(
        self,
        theta: Float[Tensor, "M P"],
        statistics: dict[str, Tensor],
        inputs: Float[Tensor, "M B ..."],
        targets: Any,
    ) -> tuple[Float[Tensor, "M P"], tuple[Float[Tensor, "M B C"], dict[str, Tensor]]]:
        """(gradients, (outputs, new running statistics)); the arguments are left as they were."""
        ...


def stacked_gradient(module: nn.Module, objective: Objective) -> StackedGradient:
    """The gradient of `objective` for any module that `torch.func.vmap` can run.

    `statistics` are running statistics of normalization, [M, ...] by name, as are the new ones.
    """
    layout, layer = Layout.of(module), stacked(module)

    def gradient(
        theta: Tensor, statistics: dict[str, Tensor], inputs: Tensor, targets: Any
    ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        theta, carried = theta.detach(), dict(statistics)
        with torch.enable_grad():
            outputs, pullback = layer(layout.unflatten(theta), carried, inputs)
        found = torch.empty_like(theta)
        pullback(_in_outputs(objective, outputs, targets), layout.unflatten(found), False)
        return found, (outputs, carried)

    def chosen(
        theta: Tensor, statistics: dict[str, Tensor], inputs: Tensor, targets: Any
    ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        given = (theta, statistics, inputs, targets)
        return apart(gradient, *given) if faster_apart(module, inputs) else gradient(*given)

    return chosen


def _in_outputs(objective: Objective, outputs: Float[Tensor, "M B C"], targets: Any) -> Tensor:
    """The gradient of each model's objective in its outputs."""
    if objective == cross_entropy.mean and not targets.is_floating_point():
        return _softmax_minus_target(outputs, targets).div_(outputs.shape[1])
    return torch.func.vmap(torch.func.grad(objective))(outputs, targets).to(outputs.dtype)


def _softmax_minus_target(outputs: Float[Tensor, "M B C"], targets: Tensor) -> Tensor:
    """p − y with all its digits in outputs' own dtype.

    Where p is near 1, p − 1 has none left in float32: minus the sum of the others has. The
    classes are not the last axis, along which a softmax over few of them takes three times as long.
    """
    classes = targets[:, None]
    others = outputs.mT.contiguous().softmax(1).scatter_(1, classes, 0.0)
    return others.scatter_(1, classes, -others.sum(1, keepdim=True)).mT
