"""The exact diagonal of the GGN, which for cross-entropy is the Fisher information's."""

import torch
from torch import Tensor

from benchmarks import flops
from benchmarks.contest import OURS, Comparison, Job, flat
from benchmarks.loader import FISHER_NOTE, OneBatch, fisher_generator
from benchmarks.nets import Problem
from gentheory.factors.diagonal import diagonals
from gentheory.middles import middle_of


def ours(problem: Problem) -> Job:
    """With the diagonal of the gradients' second moment beside it, from the same pass."""
    risk = problem.risk()
    middle = middle_of(risk, "ggn", torch.Generator())
    return Job(lambda: diagonals(risk, middle).curvature)


def backpack(problem: Problem) -> Job:
    from backpack import backpack, extend
    from backpack.extensions import DiagGGNExact

    own = problem.own()
    model, loss = extend(own.model), extend(torch.nn.CrossEntropyLoss())

    def run() -> Tensor:
        for p in own.params:
            p.grad = None
        with backpack(DiagGGNExact()):
            loss(model(own.x), own.y).backward()
        return flat(p.diag_ggn_exact for p in own.params)

    return Job(run)


def nngeometry(problem: Problem) -> Job:
    from nngeometry.object import PMatDiag

    own = problem.own()
    generator, loader = fisher_generator(own.model), OneBatch(own.x, own.y)
    return Job(lambda: PMatDiag(generator=generator, examples=loader).get_diag())


COMPARISONS = [
    Comparison(
        work="diagonal of the GGN",
        net=net,
        contestants={OURS: ours, "BackPACK": backpack, "nngeometry": nngeometry},
        target=1.5,
        tolerance=1e-3,
        flops=flops.ggn_diagonal,
        notes={"BackPACK": "DiagGGNExact", "nngeometry": f"PMatDiag, {FISHER_NOTE}"},
    )
    for net in ("mlp", "cnn")
]
