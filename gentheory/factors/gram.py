"""The Gram matrix of all examples' output gradients, J Jᵀ, out of layer factors, without J.

For linear layers it is Σ_layers (A Aᵀ) ∘ (G Gᵀ): the empirical neural tangent kernel with all its
outputs (Jacot et al. 2018; the contraction as in Novak et al. 2022).
"""

from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.factors.capture import Capture, Factor
from gentheory.factors.passes import output_captures
from gentheory.risk import EmpiricalRisk

_BLOCK = 100
"""Examples a block of the matrix."""


def gram(risk: EmpiricalRisk) -> Float[Tensor, "N C N C"]:
    """⟨∂f_ic/∂θ, ∂f_jd/∂θ⟩ in float64, without weight decay. Takes (N C)² numbers.

    Products in the risk's dtype; half of them, for the other half is their mirror image.
    """
    captures = [part for _, captured in output_captures(risk) for part in _cut(captured)]
    ends = list(accumulate(len(captured.outputs) for captured in captures))
    spans = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    shape = (ends[-1], risk.num_outputs) * 2
    total = torch.empty(shape, dtype=torch.float64, device=risk.device)
    for index, (left, rows) in enumerate(zip(captures, spans, strict=True)):
        for right, columns in zip(captures[: index + 1], spans, strict=False):
            block = _block(left, right)  # [C, B, C, B]
            total[rows, :, columns] = block.permute(1, 0, 3, 2).double()
            if right is not left:
                total[columns, :, rows] = block.permute(3, 2, 1, 0).double()
    return total


def _cut(captured: Capture) -> list[Capture]:
    """Captures of fewer examples: small blocks stay in the caches, and spare more mirror images."""
    pieces = {
        name: zip(factor.inputs.split(_BLOCK, 1), factor.gradients.split(_BLOCK, 2), strict=True)
        for name, factor in captured.factors.items()
    }
    parts = zip(captured.outputs.split(_BLOCK), captured.rest.split(_BLOCK, 1), strict=True)
    return [
        Capture(outputs, {name: Factor(*next(pieces[name])) for name in pieces}, rest)
        for outputs, rest in parts
    ]


def _block(left: Capture, right: Capture) -> Float[Tensor, "C B C B"]:
    total = torch.einsum("kbp,jep->kbje", left.rest, right.rest)
    for names in left.same_gradients():
        pairs = [(left.factors[name], right.factors[name]) for name in names]
        if pairs[0][0].inputs.shape[2] == 1:
            # Weight and bias of a layer have the same output-gradients: one product serves both.
            inputs = sum(one.inputs[:, :, 0] @ two.inputs[:, :, 0].mT for one, two in pairs)
            one, two = (factor.gradients[:, :, :, 0].flatten(1, 2) for factor in pairs[0])
            for a, g in zip(torch.as_tensor(inputs), one @ two.mT, strict=True):
                total.addcmul_(g.view_as(total), a[None, :, None, :])
        else:
            # Positions would square the work: with several the gradients themselves are cheaper.
            for one, two in pairs:
                total += torch.einsum("kbp,jep->kbje", one.dense(), two.dense())
    return total
