"""Curvature and gradient covariance as dense matrices or diagonals, from one pass of Jacobians."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.curvature.covariance import decay_terms
from gentheory.curvature.fisher import sampler
from gentheory.curvature.hessian import hessian
from gentheory.curvature.sandwich import Middle
from gentheory.data.batches import Batch
from gentheory.errors import InputError
from gentheory.risk import EmpiricalRisk

Curvature = Literal["ggn", "fisher", "sampled_fisher", "hessian"]
CURVATURES: tuple[Curvature, ...] = ("ggn", "fisher", "sampled_fisher", "hessian")

_JACOBIAN_BYTES = 8 * 2**20
"""Jacobians at once: chunks that stay near the caches beat larger ones on CPU."""


@dataclass(frozen=True)
class Moments:
    """Curvature H and covariance C, both [P, P] or both diagonals [P]; the mean gradient [P]."""

    curvature: Tensor  # float64
    covariance: Tensor  # float64
    mean_gradient: Float[Tensor, " P"]  # float64


def dense_moments(
    risk: EmpiricalRisk, curvature: Curvature, *, centred: bool, generator: Generator
) -> Moments:
    """Both matrices in float64: 2 P² numbers and N · C · P² multiplications."""
    moments = _moments(risk, curvature, _outer, centred=centred, generator=generator)
    h, c = moments.curvature, moments.covariance
    return Moments((h + h.T) / 2, (c + c.T) / 2, moments.mean_gradient)


def diagonal_moments(
    risk: EmpiricalRisk, curvature: Curvature, *, centred: bool, generator: Generator
) -> Moments:
    """The diagonals of both matrices, exact, in float64."""
    return _moments(risk, curvature, _inner, centred=centred, generator=generator)


Pairing = Callable[[Float[Tensor, "B P"], Float[Tensor, "B P"]], Tensor]
"""Sums over rows the products of two arrays' columns: all pairs of columns, or like with like."""


def _outer(left: Tensor, right: Tensor) -> Float[Tensor, "P P"]:
    return left.T @ right


def _inner(left: Tensor, right: Tensor) -> Float[Tensor, " P"]:
    return (left * right).sum(0)


def _moments(
    risk: EmpiricalRisk,
    curvature: Curvature,
    pairing: Pairing,
    *,
    centred: bool,
    generator: Generator,
) -> Moments:
    theta = risk.theta.double()
    h = c = pairing(torch.zeros_like(theta)[None], torch.zeros_like(theta)[None])
    total = torch.zeros_like(theta)
    middle = None if curvature == "hessian" else middle_of(risk, curvature, generator)
    for jacobian, outputs, batch in jacobians(risk):
        jacobian = jacobian.double()
        if middle is not None:
            weighted = middle(outputs, batch).double() @ jacobian
            h = h + pairing(weighted.flatten(0, 1), jacobian.flatten(0, 1))
        residuals = risk.loss.gradient(outputs, batch[1]).double()
        gradients = torch.einsum("bc,bcp->bp", residuals, jacobian)
        c = c + pairing(gradients, gradients)
        total += gradients.sum(0)
    mean = total / risk.num_examples + risk.weight_decay * theta
    c = c / risk.num_examples + pairing(*decay_terms(risk, mean, centred=centred))
    if middle is None:
        operator = hessian(risk)
        h = (operator.dense() if pairing is _outer else operator.diagonal()).double()
    else:
        ones = torch.eye(risk.num_params, dtype=h.dtype, device=h.device) if h.dim() == 2 else 1.0
        h = h / risk.num_examples + risk.weight_decay * ones
    return Moments(h, c, mean)


def middle_of(risk: EmpiricalRisk, curvature: Curvature, generator: Generator) -> Middle:
    """W_i of this curvature; the Hessian has none and is refused."""
    if curvature == "ggn":
        return lambda outputs, batch: risk.loss.hessian(outputs, batch[1])
    if curvature == "fisher":
        return lambda outputs, batch: risk.loss.fisher(outputs)
    if curvature == "sampled_fisher":
        return sampler(risk, num_samples=1, generator=generator)
    raise InputError(
        "curvature", repr(curvature), f"one of {', '.join(CURVATURES)}", "choose one of these"
    )


def jacobians(
    risk: EmpiricalRisk,
) -> Iterator[tuple[Float[Tensor, "B C P"], Float[Tensor, "B C"], Batch]]:
    """Per-example Jacobians of the outputs, in chunks that fit a fixed amount of memory."""

    def one(theta: Tensor, example: Tensor) -> Tensor:
        return risk.outputs(theta, example[None])[0]

    per_example = torch.func.vmap(torch.func.jacrev(one), in_dims=(None, 0))
    for inputs, targets in risk.batches():
        with torch.no_grad():
            outputs = risk.outputs(risk.theta, inputs)
        # float64 costs 8 bytes; J, W J and the flat copy of each live at once.
        chunk = max(1, _JACOBIAN_BYTES // (8 * risk.num_params * outputs.shape[1]))
        parts = (tensor.split(chunk) for tensor in (inputs, outputs, targets))
        for x, f, y in zip(*parts, strict=True):
            yield per_example(risk.theta, x), f, (x, y)
