"""Stochastic traces: Hutchinson, Hutch++ and XTrace."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.errors import check_at_least
from gentheory.estimate import Estimate
from gentheory.linalg.operator import LinearOperator, check_products
from gentheory.linalg.probes import gaussian, rademacher


def hutchinson(
    operator: LinearOperator, *, num_probes: int, generator: Generator
) -> Float[Tensor, " K"]:
    """K independent unbiased samples zᵀAz of tr A, z of Rademacher entries (Hutchinson 1989).

    Their variance is 2 Σ_{i≠j} A_ij²: a diagonal operator has none. Raises `InputError` for an
    operator that is not symmetric, `FloatingPointError` for a product that is not finite.
    """
    z = rademacher(num_probes, operator, generator)
    product = operator(z)
    check_products("hutchinson", z, product)
    return (z.double() * product.double()).sum(-1)


def hutch_pp(operator: LinearOperator, *, num_products: int, generator: Generator) -> Estimate:
    """Hutch++: the trace on a sketched range exactly, Hutchinson on the rest  (Meyer et al. 2021).

    A third of the products each for the sketch, for the trace on it and for the rest. Unbiased;
    `stderr` covers the rest's probes, the only ones that matter given the sketch. Exact, with
    `stderr` 0, where the sketch is as large as the operator. At least 6 products; takes
    num_products / 3 vectors of size P. Raises as `hutchinson`.
    """
    check_at_least("hutch_pp.num_products", num_products, 6)
    sketched = (num_products + 1) // 3
    if sketched >= operator.size:
        return _exact(operator)
    z = rademacher(sketched, operator, generator)
    image = operator(z)
    check_products("hutch_pp", z, image)
    basis = torch.linalg.qr(image.T)[0].T.contiguous()
    captured = (basis.double() * operator(basis).double()).sum()
    probes = rademacher(num_products - 2 * sketched, operator, generator)
    probes = probes - (probes @ basis.T) @ basis
    rest = (probes.double() * operator(probes).double()).sum(-1)
    return Estimate.from_samples(captured + rest, num_products=num_products)


def xtrace(operator: LinearOperator, *, num_products: int, generator: Generator) -> Estimate:
    """XTrace: Hutch++ with every vector both in the sketch and left out as a probe.

    (Epperly, Tropp & Webber 2024, with resphered Gaussian vectors.) The mean of K = num_products
    / 2 exchangeable unbiased estimates, each with a sketch of the K − 1 other vectors. The paper
    estimates the error by their standard deviation / √K, `stats["independent_stderr"]`, as if
    they were independent. But each pair of vectors enters two of them, once either way round, with
    the same sign: where pairs dominate, the variance is twice that, and `stderr` is √2 of it.
    Exact, with `stderr` 0, where K vectors span the space. At least 4 products; takes 4 K vectors
    of size P. Raises as `hutchinson`.
    """
    check_at_least("xtrace.num_products", num_products, 4)
    count = num_products // 2
    if count > operator.size:
        return _exact(operator)
    omega = gaussian(count, operator, generator)
    image = operator(omega)
    check_products("xtrace", omega, image)
    q, r = torch.linalg.qr(image.T.double())
    basis = q.T.to(operator.dtype)
    core = basis.double() @ operator(basis).double().T
    core = (core + core.T) / 2
    captured, bend, covered = _left_out(r, core, q.T @ omega.double().T)
    # The probe's direction in the space beyond the sketch, at that space's expected length.
    beyond = operator.size - count + 1
    samples = captured + beyond * bend / (omega.double().square().sum(1) - covered)
    mean = Estimate.from_samples(samples)
    counts = {"num_products": 2 * count, "independent_stderr": mean.stderr}
    return Estimate(mean.value, math.sqrt(2) * mean.stderr, stats={**mean.stats, **counts})


def _left_out(
    r: Float[Tensor, "K K"], core: Float[Tensor, "K K"], w: Float[Tensor, "K K"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"], Float[Tensor, " K"]]:
    """With each vector ω_i left out of the sketch: its trace, and of ω_i less its part there uᵀAu.

    In the coordinates of Q: A Ω = Q R, core = QᵀAQ, w = QᵀΩ. Without column i the sketch loses
    one direction s_i of Q, the unit vector orthogonal to R's other columns; u_i = ω_i − Q v_i.
    The third is |v_i|².
    """
    size = r.diagonal().abs().max()
    # A direction that no image reaches: any s_i will do, as long as it is finite.
    floor = torch.finfo(r.dtype).eps * size.where(size > 0, 1.0)
    safe = r + torch.diag(floor.where(r.diagonal().abs() <= floor, 0.0))
    s = torch.linalg.inv(safe).mT
    s = s / s.norm(dim=0)
    v = w - (s * w).sum(0) * s
    captured = core.trace() - (s * (core @ s)).sum(0)
    bend = (w * r).sum(0) - 2 * (v * r).sum(0) + (v * (core @ v)).sum(0)
    return captured, bend, v.square().sum(0)


def _exact(operator: LinearOperator) -> Estimate:
    trace = operator.diagonal().double().sum().item()
    if not math.isfinite(trace):
        raise FloatingPointError("trace: a product with the operator is not finite")
    return Estimate(trace, stats={"num_products": operator.size})
