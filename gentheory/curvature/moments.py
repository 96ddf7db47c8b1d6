"""Curvature and gradient covariance as dense blocks, from one pass of Jacobians."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.curvature.blocks import diagonal_block
from gentheory.curvature.hessian import hessian
from gentheory.data.batches import Batch
from gentheory.errors import InputError
from gentheory.examples import over_examples
from gentheory.middles import Curvature, middle_of
from gentheory.modes import Moments
from gentheory.risk import EmpiricalRisk

_JACOBIAN_BYTES = 8 * 2**20
"""Jacobians at once: chunks that stay near the caches beat larger ones on CPU."""


def check_size(place: str, size: int, max_params: int) -> None:
    """Raise `InputError` for more parameters than may be decomposed."""
    if size > max_params:
        raise InputError(
            place,
            f"{size} parameters, which take about {6 * 8 * size**2 / 2**30:.1f} GiB",
            f"at most max_params = {max_params}",
            "use one in sample space, by Kronecker factors or by diagonals, or raise max_params",
        )


def dense_moments(
    risk: EmpiricalRisk,
    curvature: Curvature,
    generator: Generator,
    *,
    blocks: Sequence[slice] | None = None,
) -> list[Moments]:
    """Both matrices for each block: 2 p² numbers and N · C · p² multiplications each."""
    blocks = [slice(0, risk.num_params)] if blocks is None else blocks
    sizes = [block.stop - block.start for block in blocks]
    mean = torch.zeros(risk.num_params, dtype=torch.float64, device=risk.device)
    curved, covariances = ([mean.new_zeros(p, p) for p in sizes] for _ in range(2))
    middle = None if curvature == "hessian" else middle_of(risk, curvature, generator)
    for rows, outputs, batch in jacobians(risk):
        rows = rows.double()
        residuals = risk.loss.gradient(outputs, batch[1]).double()
        gradients = torch.einsum("bc,bcp->bp", residuals, rows)
        mean += gradients.sum(0)
        weights = None if middle is None else middle(outputs, batch).double()
        for block, h, c in zip(blocks, curved, covariances, strict=True):
            own = gradients[:, block]
            c.addmm_(own.T, own)
            if weights is not None:
                inner = rows[:, :, block]
                h.addmm_((weights @ inner).flatten(0, 1).T, inner.flatten(0, 1))
    if middle is None:
        operator = hessian(risk)
        curved = [diagonal_block(operator, block).dense().double() for block in blocks]
        for h in curved:
            h.diagonal().sub_(risk.weight_decay)
            h *= risk.num_examples
    count = risk.num_examples
    return [
        Moments(block, (h + h.T) / (2 * count), (c + c.T) / (2 * count), mean[block] / count)
        for block, h, c in zip(blocks, curved, covariances, strict=True)
    ]


def jacobians(
    risk: EmpiricalRisk, theta: Float[Tensor, " P"] | None = None
) -> Iterator[tuple[Float[Tensor, "B C P"], Float[Tensor, "B C"], Batch]]:
    """Per-example Jacobians of the outputs, in chunks that fit a fixed amount of memory.

    At the risk's own parameters unless others are given.
    """
    theta = risk.theta if theta is None else theta
    for inputs, targets in risk.batches():
        with torch.no_grad():
            outputs = risk.outputs(theta, inputs)
        # float64 costs 8 bytes; J, W J and the flat copy of each live at once.
        chunk = max(1, _JACOBIAN_BYTES // (8 * risk.num_params * outputs.shape[1]))
        parts = (tensor.split(chunk) for tensor in (inputs, outputs, targets))
        for x, f, y in zip(*parts, strict=True):
            yield jacobian(risk, theta, x), f, (x, y)


def jacobian(
    risk: EmpiricalRisk, theta: Float[Tensor, " P"], inputs: Tensor
) -> Float[Tensor, "B C P"]:
    """Of each example's outputs, at any parameters."""

    def one(example: Tensor) -> Tensor:
        return torch.func.jacrev(lambda at: risk.outputs(at, example[None])[0])(theta)

    return over_examples(one, inputs)
