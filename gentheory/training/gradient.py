"""The gradient of a whole stack on one batch: what every step of training costs."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentheory.params import Layout

Objective: TypeAlias = Callable[[Tensor, Any], Tensor]
"""(outputs [B, C] of one model, its targets) -> the number to go down; run under `vmap`.

Targets are a tensor [B, ...] or a tree of such tensors, each with the stack's axis before it.
"""


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
    """The gradient of `objective`, by `vmap` over autograd for any module.

    `statistics` are running statistics of normalization, [M, ...] by name, as are the new ones.
    """
    layout = Layout.of(module)

    def value(
        theta: Tensor, statistics: dict[str, Tensor], inputs: Tensor, targets: Any
    ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        tensors = layout.unflatten(theta) | statistics
        # What the call puts in the place of a buffer stands in this dictionary afterwards.
        outputs = torch.func.functional_call(module, tensors, (inputs,))
        carried = {name: tensors[name] for name in statistics}
        return objective(outputs, targets), (outputs, carried)

    return torch.func.vmap(torch.func.grad(value, has_aux=True))
