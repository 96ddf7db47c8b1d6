"""The empirical neural tangent kernel: the Gram matrix of 300 examples x 10 outputs."""

import torch
from torch import Tensor

from benchmarks import flops
from benchmarks.contest import OURS, Comparison, Job
from benchmarks.loader import OneBatch
from benchmarks.nets import Problem
from gentheory.factors.gram import gram


def ours(problem: Problem) -> Job:
    risk = problem.risk()
    return Job(lambda: gram(risk), _square)


def nngeometry(problem: Problem) -> Job:
    from nngeometry.gram import GramMatrix

    own = problem.own()
    loader = OneBatch(own.x, own.y)
    return Job(lambda: GramMatrix(own.model, loader).data, lambda g: _square(g.permute(1, 0, 3, 2)))


def contraction(problem: Problem) -> Job:
    """Jacobians by vmap of jacrev, then their products, parameter by parameter (torch.func)."""
    params = {name: p.detach() for name, p in problem.model.named_parameters()}

    def outputs(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(problem.model, params, (x[None],))[0]

    jacobian = torch.func.vmap(torch.func.jacrev(outputs), in_dims=(None, 0))

    def run() -> Tensor:
        parts = [part.flatten(2) for part in jacobian(params, problem.x).values()]
        return sum(torch.einsum("ncp,mdp->ncmd", part, part) for part in parts)

    return Job(run, _square)


def _square(kernel: Tensor) -> Tensor:
    """[N C, N C]."""
    return kernel.flatten(2).flatten(0, 1)


COMPARISONS = [
    Comparison(
        work="empirical NTK, 300 examples x 10 outputs",
        net="mlp",
        contestants={OURS: ours, "nngeometry": nngeometry, "torch.func": contraction},
        target=1.5,
        targets={"torch.func": 100.0},
        flops=flops.gram,
        examples=300,
        notes={
            "nngeometry": "GramMatrix as FMatDense",
            "torch.func": "Jacobian contraction; its own target is 100",
        },
    )
]
