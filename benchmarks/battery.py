"""All cheap measures of a net of 50,000 parameters on 2,000 examples: no peer has them."""

import torch
from torch import Tensor

import gentheory as gt
from benchmarks.contest import OURS, Comparison, Job
from benchmarks.nets import Problem, build
from gentheory.params import flatten


def ours(problem: Problem) -> Job:
    """With the initial parameters, which some of the measures need."""
    initial = flatten(build(problem.net)).to(problem.device)

    def run() -> Tensor:
        found = gt.measure(gt.Checkpoint(problem.risk(), initial=initial), "cheap")
        return torch.tensor([estimate.value for estimate in found.values()])

    return Job(run)


COMPARISONS = [
    Comparison(
        work="all cheap measures, P = 50,000",
        net=net,
        contestants={OURS: ours},
        target=20.0,
        # Some are refused, such as the inverse of a margin that is negative.
        difference=lambda found, expected: 0.0,
    )
    for net in ("small", "cnn")
]
