"""Exact TIC of the GGN in sample space, for 270,000 parameters and 300 examples: no peer has it."""

import torch
from torch import Tensor

import gentheory as gt
from benchmarks.contest import OURS, Comparison, Job
from benchmarks.nets import Problem


def ours(problem: Problem) -> Job:
    def run() -> Tensor:
        result = gt.measure(problem.risk(), ["tic.kernel"])["tic.kernel"]
        return torch.tensor(result.value)

    return Job(run)


COMPARISONS = [
    Comparison(
        work="exact TIC of the GGN, P = 270,000, n = 300",
        net="mlp",
        contestants={OURS: ours},
        target=10.0,
        examples=300,
    )
]
