"""KFAC factors of the exact Fisher information: one backward pass for each class.

Called type-2 by curvlinops, KFLR by BackPACK. Conventions differ in how a constant is shared
between the two factors and in whether the bias is a further input; compared are the factors of the
weights, each at Frobenius norm 1.
"""

import torch
from torch import Tensor

from benchmarks import flops
from benchmarks.contest import OURS, Comparison, Job, flat
from benchmarks.loader import FISHER_NOTE, OneBatch, fisher_generator
from benchmarks.nets import Problem
from gentheory.factors.kronecker import Kronecker, kronecker
from gentheory.middles import middle_of


def ours(problem: Problem) -> Job:
    """With the factors of the gradients' second moment beside them, from the same pass."""
    risk = problem.risk()
    middle = middle_of(risk, "ggn", torch.Generator())

    def answer(found: Kronecker) -> Tensor:
        weights = [name for name in found.inputs if name.endswith("weight")]
        return normalized((found.inputs[name][0], found.curvature[name][0]) for name in weights)

    return Job(lambda: kronecker(risk, middle), answer)


def curvlinops(problem: Problem) -> Job:
    from curvlinops import FisherType, KFACLinearOperator

    loss = torch.nn.CrossEntropyLoss()

    def run() -> KFACLinearOperator:
        operator = KFACLinearOperator(
            problem.model,
            loss,
            problem.params,
            [(problem.x, problem.y)],
            check_deterministic=False,
            fisher_type=FisherType.TYPE2,
            num_data=len(problem.x),
            num_per_example_loss_terms=1,
        )
        operator.compute_kronecker_factors()
        return operator

    def answer(operator: KFACLinearOperator) -> Tensor:
        inputs, outputs = operator._input_covariances, operator._gradient_covariances
        return normalized((inputs[name], outputs[name]) for name in inputs)

    return Job(run, answer)


def backpack(problem: Problem) -> Job:
    from backpack import backpack, extend
    from backpack.extensions import KFLR

    own = problem.own()
    model, loss = extend(own.model), extend(torch.nn.CrossEntropyLoss())

    def run() -> list[list[Tensor]]:
        for p in own.params:
            p.grad = None
        with backpack(KFLR()):
            loss(model(own.x), own.y).backward()
        return [p.kflr for p in own.params]

    return Job(run, lambda found: normalized((f[1], f[0]) for f in found if len(f) == 2))


def nngeometry(problem: Problem) -> Job:
    from nngeometry.object import PMatKFAC

    own = problem.own()
    generator, loader = fisher_generator(own.model), OneBatch(own.x, own.y)

    def run() -> dict[str, tuple[Tensor, Tensor]]:
        return PMatKFAC(generator=generator, examples=loader).data

    return Job(run, lambda found: normalized((a[:-1, :-1], g) for a, g in found.values()))


def normalized(pairs) -> Tensor:
    """All factors (inputs, gradients), each at Frobenius norm 1, as one vector."""
    return flat(factor / factor.norm() for pair in pairs for factor in pair)


COMPARISONS = [
    Comparison(
        work="KFAC factors",
        net=net,
        contestants={
            OURS: ours,
            "curvlinops": curvlinops,
            "BackPACK": backpack,
            "nngeometry": nngeometry,
        },
        target=1.5,
        # Their float32 sums over 1.6 million positions of the CNN are off by that much; ours, in
        # float64 from chunk to chunk, by 3e-6.
        tolerance=5e-3 if net == "cnn" else 1e-3,
        flops=flops.kronecker_factors,
        notes={
            "curvlinops": "type-2",
            "BackPACK": "KFLR; its gradients are summed over the positions of a convolution",
            "nngeometry": f"PMatKFAC, {FISHER_NOTE}",
        },
    )
    for net in ("mlp", "cnn")
]
