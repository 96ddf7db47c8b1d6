"""Spectral density of the Hessian by stochastic Lanczos quadrature: 4 probes, 40 steps each.

Setting up the operator is part of the work. Each contestant has four random probes of its own, so
answers are compared by what does not hang on them: the mass and the largest node.
"""

import torch
from torch import Tensor

import gentheory as gt
from benchmarks import flops
from benchmarks.contest import OURS, Comparison, Job
from benchmarks.nets import Problem
from benchmarks.products import curvlinops_operator, eigenthings_operator, pyhessian_handle
from gentheory.linalg import lanczos_quadrature

PROBES, STEPS = 4, 40


def ours(problem: Problem) -> Job:
    def run():
        generator = torch.Generator().manual_seed(0)
        return lanczos_quadrature(
            gt.hessian(problem.risk()), num_probes=PROBES, num_steps=STEPS, generator=generator
        )

    return Job(run, lambda found: moments(found.nodes, found.weights))


def curvlinops(problem: Problem) -> Job:
    """Its Lanczos without reorthogonalization, from random starts; no time for the boundaries."""
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    def run() -> list[tuple[Tensor, Tensor]]:
        torch.manual_seed(0)
        operator = curvlinops_operator(problem)
        return [fast_lanczos(operator, STEPS) for _ in range(PROBES)]

    return Job(run, lambda runs: _moments([(nodes, y[0] ** 2) for nodes, y in runs]))


def eigenthings(problem: Problem) -> Job:
    from hessian_eigenthings import spectral_density

    def run():
        operator = eigenthings_operator(problem)
        return spectral_density(operator, num_runs=PROBES, lanczos_steps=STEPS, seed=0)

    return Job(run, lambda found: moments(found.raw_eigenvalues, found.raw_weights))


def pyhessian(problem: Problem) -> Job:
    def run() -> tuple[list[list[float]], list[list[float]]]:
        torch.manual_seed(0)
        return pyhessian_handle(problem).density(iter=STEPS, n_v=PROBES)

    return Job(run, lambda found: moments(*(torch.tensor(part) for part in found)))


def _moments(runs: list[tuple[Tensor, Tensor]]) -> Tensor:
    nodes, weights = zip(*runs, strict=True)
    return moments(torch.stack(nodes), torch.stack(weights))


def moments(nodes: Tensor, weights: Tensor) -> Tensor:
    """(mass, largest node) of the density, from nodes and weights [probes, steps]."""
    nodes, weights = nodes.double().cpu(), weights.double().cpu()
    return torch.stack([weights.sum(1).mean(), nodes.max()])


def difference(found: Tensor, expected: Tensor) -> float:
    """The larger of the relative differences of the two."""
    return float(((found - expected).abs() / expected.abs()).max())


def _flops(problem: Problem) -> float:
    # Lanczos vectors are orthogonal to all earlier ones: two passes over half of them.
    orthogonal = 2 * 2 * STEPS**2 / 2 * problem.num_params
    return PROBES * (STEPS * flops.hessian_product(problem) + orthogonal)


COMPARISONS = [
    Comparison(
        work="spectral density of the Hessian, 4 probes x 40 steps",
        net=net,
        examples=examples,
        contestants={
            OURS: ours,
            "curvlinops": curvlinops,
            "hessian-eigenthings": eigenthings,
            "PyHessian": pyhessian,
        },
        target=3.0,
        difference=difference,
        tolerance=0.01,
        flops=_flops,
        notes={
            "curvlinops": "without reorthogonalization",
            "PyHessian": "with torch.linalg.eig in the place of torch.eig, which torch removed",
        },
    )
    for net, examples in (("mlp", None), ("cnn", 250))
]
