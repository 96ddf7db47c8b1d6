"""Spectra of the curvature at the trained parameters."""

from typing import Literal

from torch import Generator

from gentheory.checkpoint import Checkpoint
from gentheory.curvature import ggn, hessian
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.linalg import LinearOperator, hutchinson, largest
from gentheory.risk import EmpiricalRisk

__all__ = ["top", "trace"]

Matrix = Literal["hessian", "ggn"]


def top(
    checkpoint: Checkpoint,
    *,
    k: int = 1,
    curvature: Matrix = "hessian",
    rtol: float = 1e-4,
    max_steps: int = 300,
    generator: Generator,
) -> Estimate:
    """Largest eigenvalue, Lanczos with full reorthogonalization; `stats` holds the k largest.

    `stderr` is the residual |Hx − λx|: an eigenvalue lies that near. A deterministic bound, it
    covers neither the data nor the chance that the random start misses a larger one. A warning
    where a residual stays above rtol · |λ|max after `max_steps` products.
    """
    if k < 1:
        raise InputError("spectra.top.k", str(k), "at least 1", "give 1 or more")
    if max_steps < k:
        raise InputError("spectra.top.max_steps", str(max_steps), f"at least k = {k}", "give more")
    operator = _operator(checkpoint.risk, curvature)
    pairs = largest(operator, k, rtol=rtol, max_steps=max_steps, generator=generator)
    unconverged = f"not converged to {rtol:g} in {max_steps} steps"
    return Estimate(
        pairs.values[0].item(),
        pairs.residuals[0].item(),
        warnings=() if pairs.converged else (unconverged,),
        stats={
            "curvature": curvature,
            "eigenvalues": pairs.values.tolist(),
            "residuals": pairs.residuals.tolist(),
            "num_products": pairs.num_products,
        },
    )


def trace(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    num_probes: int = 64,
    generator: Generator,
) -> Estimate:
    """Trace by Hutchinson's estimator with Rademacher probes; `stderr` covers their draw only."""
    if num_probes < 2:
        raise InputError("spectra.trace.num_probes", str(num_probes), "at least 2", "give more")
    operator = _operator(checkpoint.risk, curvature)
    samples = hutchinson(operator, num_probes=num_probes, generator=generator)
    return Estimate.from_samples(samples, curvature=curvature)


def _operator(risk: EmpiricalRisk, curvature: Matrix) -> LinearOperator:
    operators = {"hessian": hessian, "ggn": ggn}
    if curvature not in operators:
        raise InputError("curvature", repr(curvature), "'hessian' or 'ggn'", "choose one")
    return operators[curvature](risk)
