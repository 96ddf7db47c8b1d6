"""Second derivatives in the outputs of layers: what adding to them does to each example."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentheory.data.batches import Batch
from gentheory.risk import EmpiricalRisk


@dataclass(frozen=True)
class Shifts:
    """By the s outputs of all layers in a row; float64."""

    hessian: Float[Tensor, "B s s"]
    """Of each example's loss."""
    inputs: list[Float[Tensor, "B D s"]]
    """Derivative of each layer's inputs."""


def shifts(risk: EmpiricalRisk, batch: Batch, layers: Sequence[str], sizes: list[int]) -> Shifts:
    """s forward-over-reverse products; for layers called once, at one position, of these sizes."""
    modules = [risk.module.get_submodule(layer) for layer in layers]

    def value(delta: Float[Tensor, "B s"]) -> tuple[Tensor, list[Tensor]]:
        with shifted(modules, delta.split(sizes, 1)) as inputs:
            return risk.loss_sum(risk.theta, batch), inputs

    zero = torch.zeros(len(batch[0]), sum(sizes), dtype=risk.dtype, device=risk.device)

    def along(unit: Float[Tensor, " s"]) -> tuple[Tensor, list[Tensor]]:
        gradient = torch.func.grad(value, has_aux=True)
        return torch.func.jvp(gradient, (zero,), (unit.expand_as(zero),))[1]

    units = torch.eye(sum(sizes), dtype=risk.dtype, device=risk.device)
    hessian, inputs = torch.func.vmap(along)(units)
    return Shifts(hessian.movedim(0, 2).double(), [each.movedim(0, 2).double() for each in inputs])


@contextmanager
def shifted(
    modules: Sequence[nn.Module], shifts: Sequence[Tensor]
) -> Generator[list[Tensor], None, None]:
    """Adds to the modules' outputs, and collects their inputs [B, D] in the modules' order."""
    inputs = [shift[:, :0] for shift in shifts]

    def hook_of(place: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs[place] = args[0].reshape(len(output), -1)
            return output + shifts[place].view_as(output)

        return hook

    handles = [module.register_forward_hook(hook_of(n)) for n, module in enumerate(modules)]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()
