"""Curvature and gradient covariance as dense blocks, from one pass of Jacobians."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.curvature.blocks import diagonal_block
from gentheory.curvature.hessian import hessian
from gentheory.data.batches import Batch
from gentheory.errors import InputError
from gentheory.examples import over_examples
from gentheory.middles import Curvature, middle_of
from gentheory.modes import Modes
from gentheory.risk import EmpiricalRisk

_JACOBIAN_BYTES = 8 * 2**20
"""Jacobians at once: chunks that stay near the caches beat larger ones on CPU."""


@dataclass(frozen=True)
class Moments:
    """Curvature H, covariance C and mean gradient of the data's part, on some parameters; float64.

    Weight decay is left out: it changes no eigenvector, and `modes` adds it.
    """

    where: slice
    curvature: Float[Tensor, "p p"]
    covariance: Float[Tensor, "p p"]
    gradient: Float[Tensor, " p"]


@dataclass(frozen=True)
class Eigenbasis:
    """The eigendecomposition of a block's curvature, and what the block holds in that basis."""

    where: slice
    values: Float[Tensor, " p"]
    vectors: Float[Tensor, "p p"]  # as columns
    covariance: Float[Tensor, " p"]
    gradient: Float[Tensor, " p"]

    @classmethod
    def of(cls, moments: Moments) -> "Eigenbasis":
        """p³ operations."""
        values, vectors = torch.linalg.eigh(moments.curvature)
        covariance = (vectors * (moments.covariance @ vectors)).sum(0)
        return cls(moments.where, values, vectors, covariance, vectors.T @ moments.gradient)

    def modes(self, risk: EmpiricalRisk, *, centred: bool) -> Modes:
        """With the risk's weight decay in H and in the gradients."""
        theta = self.vectors.T @ risk.theta[self.where].double()
        parts = (self.values, self.covariance, self.gradient, theta)
        return Modes.decayed(risk, *parts, centred=centred)


def check_size(place: str, size: int, max_params: int) -> None:
    """Raise `InputError` for more parameters than may be decomposed."""
    if size > max_params:
        raise InputError(
            place,
            f"{size} parameters, which take about {6 * 8 * size**2 / 2**30:.1f} GiB",
            f"at most max_params = {max_params}",
            "use one in sample space, by Kronecker factors or by diagonals, or raise max_params",
        )


def eigenbases(
    risk: EmpiricalRisk,
    curvature: Curvature,
    generator: Generator,
    *,
    blocks: Sequence[slice] | None = None,
) -> list[Eigenbasis]:
    """Of each block, or of the whole. Computed once a risk, unless targets are drawn for it."""

    def compute() -> list[Eigenbasis]:
        found = dense_moments(risk, curvature, generator, blocks=blocks)
        return [Eigenbasis.of(moments) for moments in found]

    if curvature == "sampled_fisher":
        return compute()
    key = ("eigenbases", curvature, tuple((b.start, b.stop) for b in blocks or ()))
    return risk.once(key, compute)


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
