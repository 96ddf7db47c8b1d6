"""The Gram matrix of all examples' output gradients, J Jᵀ, out of layer factors, without J.

For linear layers it is Σ_layers (A Aᵀ) ∘ (G Gᵀ): the empirical neural tangent kernel with all its
outputs (Jacot et al. 2018; the contraction as in Novak et al. 2022).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.factors.capture import Capture, Factor
from gentheory.factors.passes import output_captures
from gentheory.risk import EmpiricalRisk


def gram(risk: EmpiricalRisk) -> Float[Tensor, "N C N C"]:
    """⟨∂f_ic/∂θ, ∂f_jd/∂θ⟩ in float64, without weight decay. Takes (N C)² numbers."""
    captures = [captured for _, _, captured in output_captures(risk)]
    sizes = [captured.rest.shape[1] for captured in captures]
    classes = captures[0].rest.shape[0]
    total = torch.zeros(
        sum(sizes), classes, sum(sizes), classes, dtype=torch.float64, device=risk.device
    )
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    for i, left in enumerate(captures):
        for j, right in enumerate(captures[: i + 1]):
            block = _block(left, right)
            rows = slice(starts[i], starts[i] + sizes[i])
            columns = slice(starts[j], starts[j] + sizes[j])
            total[rows, :, columns] = block
            total[columns, :, rows] = block.permute(2, 3, 0, 1)
    return total


def _block(left: Capture, right: Capture) -> Float[Tensor, "B C B C"]:
    total = torch.einsum("kbp,jep->bkej", left.rest, right.rest).double()
    for name, factor in left.factors.items():
        total += _inner(factor, right.factors[name])
    return total


def _inner(left: Factor, right: Factor) -> Float[Tensor, "B C B C"]:
    if left.inputs.shape[2] == 1:
        inputs = torch.einsum("lbd,led->lbe", left.inputs[:, :, 0], right.inputs[:, :, 0])
        gradients = torch.einsum(
            "lkbo,ljeo->lbkej", left.gradients[:, :, :, 0], right.gradients[:, :, :, 0]
        )
        return torch.einsum("lbe,lbkej->bkej", inputs, gradients)
    # Positions would square the work: with several of them the gradients themselves are cheaper.
    return torch.einsum("kbp,jep->bkej", left.dense(), right.dense())
