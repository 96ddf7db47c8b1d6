"""What stands between the Jacobians in each curvature (1/N) Σ J_iᵀ W_i J_i: one W_i an example."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.data.batches import Batch
from gentheory.errors import InputError
from gentheory.risk import EmpiricalRisk

Curvature = Literal["ggn", "fisher", "sampled_fisher", "hessian"]
CURVATURES: tuple[Curvature, ...] = ("ggn", "fisher", "sampled_fisher", "hessian")

Middle = Callable[[Float[Tensor, "B C"], Batch], Float[Tensor, "B C C"]]
"""(outputs, batch) -> W, one matrix per example."""


def middle_of(risk: EmpiricalRisk, curvature: Curvature, generator: Generator) -> Middle:
    """W_i of this curvature; the Hessian has none and is refused."""
    if curvature == "ggn":
        return lambda outputs, batch: risk.loss.hessian(outputs, batch[1])
    if curvature == "fisher":
        return lambda outputs, batch: risk.loss.fisher(outputs)
    if curvature == "sampled_fisher":
        return sampler(risk, num_samples=1, generator=generator)
    raise InputError(
        "curvature", repr(curvature), "'ggn', 'fisher' or 'sampled_fisher'", "choose one of these"
    )


def sampler(risk: EmpiricalRisk, *, num_samples: int, generator: Generator) -> Middle:
    """Outputs -> mean of r rᵀ over targets drawn from the model, a new draw at each call."""

    def draw(outputs: Float[Tensor, "B C"], batch: Batch) -> Float[Tensor, "B C C"]:
        total = outputs.new_zeros(*outputs.shape, outputs.shape[1], dtype=torch.float64)
        for _ in range(num_samples):
            # Drawn where the generator lives: the same targets on CPU and on CUDA.
            targets = risk.loss.sample(outputs.to(generator.device), generator)
            r = risk.loss.score(outputs, targets.to(outputs.device))
            total += r[:, :, None] * r[:, None, :]
        return total / num_samples

    return draw


def roots(middles: Float[Tensor, "B C C"]) -> Float[Tensor, "B C C"]:
    """R_i with R_i R_iᵀ = W_i, in float64; negative eigenvalues, which have no root, count as 0."""
    values, vectors = torch.linalg.eigh(middles.double())
    # The root of rounding around a zero would be far above rounding.
    noise = values.shape[-1] * torch.finfo(values.dtype).eps * values.abs().amax(-1, keepdim=True)
    return vectors * torch.where(values > noise, values, 0).sqrt()[:, None, :]
