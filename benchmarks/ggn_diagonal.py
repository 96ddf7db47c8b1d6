"""The exact diagonal of the GGN, which for cross-entropy is the Fisher information's."""

from importlib import import_module

import torch
from torch import Tensor

from benchmarks import flops
from benchmarks.contest import OURS, Comparison, Job, NotThere, flat
from benchmarks.loader import FISHER_NOTE, OneBatch, fisher_generator
from benchmarks.nets import Problem


def ours(problem: Problem) -> Job:
    try:
        ggn_diagonal = import_module("gentheory.factors.diagonal").ggn_diagonal
    except (ImportError, AttributeError) as missing:
        raise NotThere("not there yet") from missing
    risk = problem.risk()
    return Job(lambda: ggn_diagonal(risk))


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
        examples=examples,
        contestants={OURS: ours, "BackPACK": backpack, "nngeometry": nngeometry},
        target=1.5,
        tolerance=1e-3,
        flops=flops.ggn_diagonal,
        notes={"BackPACK": "DiagGGNExact", "nngeometry": f"PMatDiag, {FISHER_NOTE}"},
    )
    for net, examples in (("mlp", None), ("cnn", 500))
]
