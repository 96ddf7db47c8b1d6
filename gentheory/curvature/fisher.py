"""The Fisher information, with expected or with sampled targets."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.curvature.sandwich import sandwich, weighed
from gentheory.data.batches import Batch
from gentheory.errors import InputError
from gentheory.linalg import LinearOperator
from gentheory.middles import sampler
from gentheory.risk import EmpiricalRisk


def fisher(risk: EmpiricalRisk) -> LinearOperator:
    """(1/N) Σ_i E_y[g_i gᵢᵀ] with y from the model's own likelihood, the expectation exact.

    Includes the risk's weight decay as a ridge. Raises `InputError` for a loss without likelihood.
    """
    middle = weighed(risk, lambda outputs, batch: risk.loss.fisher(outputs))
    return sandwich(risk, middle, risk.weight_decay)


def sampled_fisher(
    risk: EmpiricalRisk, *, num_samples: int = 1, generator: Generator
) -> LinearOperator:
    """The same with `num_samples` targets drawn per example: unbiased, of lower rank.

    The targets are drawn at once and kept, so that every product sees the same matrix; their
    residuals take N · num_samples · C numbers.
    """
    if num_samples < 1:
        raise InputError("num_samples", str(num_samples), "at least 1", "give 1 or more")
    middles = sampled_middles(risk, num_samples=num_samples, generator=generator)

    def one_pass() -> Iterator[tuple[Batch, Float[Tensor, "B C C"]]]:
        return zip(risk.batches(), middles, strict=True)

    return sandwich(risk, one_pass, risk.weight_decay)


def sampled_middles(
    risk: EmpiricalRisk, *, num_samples: int, generator: Generator
) -> list[Float[Tensor, "B C C"]]:
    """Per batch the mean of r rᵀ over the drawn targets."""
    draw = sampler(risk, num_samples=num_samples, generator=generator)
    with torch.no_grad():
        return [draw(risk.outputs(risk.theta, x), (x, y)).to(risk.dtype) for x, y in risk.batches()]
