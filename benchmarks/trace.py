"""Trace of the Hessian to a standard error of 1 %.

Setting up the operator is part of the work. Peers either have no standard error or none that can
be asked for: each gets the number of products at which its best estimator has it, found beforehand
from the spread over repetitions (`python -m benchmarks.calibrate`, untimed) and kept in `PRODUCTS`.
"""

import math

import torch
from torch import Tensor

import gentheory as gt
from benchmarks.contest import OURS, Comparison, Job, relative
from benchmarks.nets import Problem
from benchmarks.products import curvlinops_operator, eigenthings_operator, pyhessian_handle

RTOL = 0.01
PRODUCTS = {
    "mlp": {"hutchinson": 744, "hutch++": 576, "xtrace": 192},
    "cnn": {"hutchinson": 2385, "hutch++": 144, "xtrace": 96},
}
"""By net and estimator."""
EXAMPLES = {"mlp": 500, "cnn": 250}


def ours(problem: Problem) -> Job:
    """`spectra.trace` as it comes; nan where its standard error is above 1 %."""

    def run() -> gt.Estimate:
        return gt.measure(problem.risk(), ["spectra.trace"], seed=0)["spectra.trace"]

    def answer(found: gt.Estimate) -> Tensor:
        precise = found.stderr <= RTOL * found.value
        return torch.tensor(found.value if precise else math.nan)

    return Job(run, answer)


def curvlinops(problem: Problem) -> Job:
    """XTrace, which takes the fewest products."""
    from curvlinops import xtrace

    count = PRODUCTS[problem.net]["xtrace"]

    def run() -> Tensor:
        torch.manual_seed(0)
        return xtrace(curvlinops_operator(problem), count)

    return Job(run)


def eigenthings(problem: Problem) -> Job:
    from hessian_eigenthings import trace

    count = PRODUCTS[problem.net]["hutch++"]

    def run() -> Tensor:
        found = trace(eigenthings_operator(problem), num_matvecs=count, method="hutch++", seed=0)
        return torch.tensor(found.estimate)

    return Job(run)


def pyhessian(problem: Problem) -> Job:
    """Its Hutchinson; a tolerance of 0 keeps it from stopping where its mean moves little."""
    count = PRODUCTS[problem.net]["hutchinson"]

    def run() -> Tensor:
        torch.manual_seed(0)
        return torch.tensor(pyhessian_handle(problem).trace(maxIter=count, tol=0.0)).mean()

    return Job(run)


COMPARISONS = [
    Comparison(
        work="trace of the Hessian to 1 % standard error",
        net=net,
        examples=examples,
        contestants={
            OURS: ours,
            "curvlinops": curvlinops,
            # 576 products for the one net, 2,385 for the other: too far behind to be waited for.
            **({"PyHessian": pyhessian} if net == "mlp" else {"hessian-eigenthings": eigenthings}),
        },
        target=2.0,
        difference=relative,
        tolerance=4 * 2**0.5 * RTOL,  # four standard errors of the difference
        notes={
            "curvlinops": f"XTrace with {PRODUCTS[net]['xtrace']} products",
            "hessian-eigenthings": f"Hutch++ with {PRODUCTS[net]['hutch++']} products",
            "PyHessian": f"Hutchinson with {PRODUCTS[net]['hutchinson']} products",
        },
    )
    for net, examples in EXAMPLES.items()
]
