"""Multiplications and additions that no way of doing the work exactly and densely can save.

Counted are the matrix products of linear layers and convolutions; what is elementwise, and what
attention multiplies without weights, comes on top. `M` are the multiply-adds of one example's
forward pass, `F` those of the first layer, whose input needs no gradient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.nets import Problem


@dataclass(frozen=True)
class Layer:
    """A linear layer, or a convolution as one on patches."""

    positions: int  # T
    incoming: int  # D
    outgoing: int  # O

    @property
    def macs(self) -> int:
        """Multiply-adds of one example's forward pass."""
        return self.positions * self.incoming * self.outgoing


def layers(problem: Problem) -> list[Layer]:
    """Of the net, in the order in which an example passes them."""
    found: list[Layer] = []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        positions = output[0].numel() // weight.shape[0]
        found.append(Layer(positions, weight[0].numel(), weight.shape[0]))

    parts = [m for m in problem.model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    handles = [part.register_forward_hook(hook) for part in parts]
    with torch.no_grad():
        problem.model(problem.x[:1])
    for handle in handles:
        handle.remove()
    return found


def hessian_product(problem: Problem) -> float:
    """2F + 6(M − F) an example: two products where a pass has one, but for the first layer."""
    first, rest = _split(problem)
    return 2.0 * len(problem.x) * (2 * first + 6 * rest)


def ggn_product(problem: Problem) -> float:
    """2F + 4(M − F) an example: one forward-mode and one reverse-mode pass."""
    first, rest = _split(problem)
    return 2.0 * len(problem.x) * (2 * first + 4 * rest)


def gradient_norms(problem: Problem) -> float:
    """F + 2(M − F) an example, and for layers with positions the gradients themselves."""
    first, rest = _split(problem)
    dense = sum(layer.macs for layer in layers(problem) if layer.positions > 1)
    return 2.0 * len(problem.x) * (first + 2 * rest + dense)


def ggn_diagonal(problem: Problem, classes: int = 10) -> float:
    """A backward pass for each class, and the squares of the gradients summed."""
    first, rest = _split(problem)
    return 2.0 * len(problem.x) * (first + rest + classes * (first + 2 * rest))


def kronecker_factors(problem: Problem, classes: int = 10) -> float:
    """A backward pass for each class, and the symmetric products of inputs and gradients."""
    first, rest = _split(problem)
    outer = sum(
        layer.positions * (layer.incoming**2 + classes * layer.outgoing**2) / 2
        for layer in layers(problem)
    )
    return 2.0 * len(problem.x) * (first + rest + classes * rest + outer)


def gram(problem: Problem, classes: int = 10) -> float:
    """Backward passes, and for each layer A Aᵀ and G Gᵀ, symmetric."""
    first, rest = _split(problem)
    count = len(problem.x)
    inner = sum(
        count**2 * (layer.incoming + classes**2 * layer.outgoing) / 2 for layer in layers(problem)
    )
    return 2.0 * (count * (first + rest + classes * rest) + inner)


def _split(problem: Problem) -> tuple[int, int]:
    macs = [layer.macs for layer in layers(problem)]
    return macs[0], sum(macs[1:])
