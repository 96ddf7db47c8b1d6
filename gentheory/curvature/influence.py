"""What removing an example does to its own outputs, from an eigendecomposition of the GGN."""

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.curvature.moments import jacobians
from gentheory.risk import EmpiricalRisk


def influence(
    risk: EmpiricalRisk,
    values: Float[Tensor, " P"],
    vectors: Float[Tensor, "P P"],
    ridge: float,
) -> Float[Tensor, "N C C"]:
    """A_i = J_i (H + ridge)⁻¹ J_iᵀ / N in float64, H given by its eigenvalues and eigenvectors."""
    scaled = vectors / (values + ridge).sqrt()
    blocks = [_block(jacobian.double() @ scaled) for jacobian, _, _ in jacobians(risk)]
    return torch.cat(blocks) / risk.num_examples


def _block(rows: Float[Tensor, "B C P"]) -> Float[Tensor, "B C C"]:
    return rows @ rows.mT
