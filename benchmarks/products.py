"""Hessian- and GGN-vector products: the operator is set up beforehand, the product is timed."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

import gentheory as gt
from benchmarks import flops
from benchmarks.contest import OURS, Comparison, Job, flat
from benchmarks.nets import Problem


def ours(problem: Problem, *, matrix: str, count: int) -> Job:
    operator = {"hessian": gt.hessian, "ggn": gt.ggn}[matrix](problem.risk())
    v = problem.vectors(count)
    for _ in range(12):  # first plainly, then it linearizes: PyHessian's graph is there too by now
        operator(v)
    return Job(lambda: operator(v))


def curvlinops(problem: Problem, *, matrix: str, count: int) -> Job:
    """Takes and returns columns; all of them at once by vmap."""
    operator, columns = curvlinops_operator(problem, matrix), problem.vectors(count).T.contiguous()
    return Job(lambda: operator @ columns, lambda product: product.T)


def curvlinops_operator(problem: Problem, matrix: str = "hessian"):
    """One batch; the check for determinism, two products, is switched off."""
    from curvlinops import GGNLinearOperator, HessianLinearOperator

    kind = {"hessian": HessianLinearOperator, "ggn": GGNLinearOperator}[matrix]
    data, loss = [(problem.x, problem.y)], torch.nn.CrossEntropyLoss()
    return kind(
        problem.model,
        loss,
        problem.params,
        data,
        check_deterministic=False,
        num_data=len(problem.x),
    )


def eigenthings(problem: Problem, *, matrix: str, count: int) -> Job:
    operator, rows = eigenthings_operator(problem, matrix), problem.vectors(count)
    return Job(lambda: torch.stack([operator.matvec(row) for row in rows]))


def eigenthings_operator(problem: Problem, matrix: str = "hessian"):
    """One batch, exact products."""
    from hessian_eigenthings import (
        GGNOperator,
        HessianOperator,
        supervised_forward,
        supervised_loss,
        supervised_loss_of_output,
    )

    data = [(problem.x, problem.y)]
    if matrix == "hessian":
        return HessianOperator(problem.model, data, supervised_loss(F.cross_entropy))
    loss = supervised_loss_of_output(F.cross_entropy)
    return GGNOperator(problem.model, data, supervised_forward, loss)


def pyhessian(problem: Problem, *, count: int) -> Job:
    """Its own product function on the graph of the gradient that it keeps for a single batch."""
    from pyhessian.utils import hessian_vector_product

    handle = pyhessian_handle(problem)
    vectors = [_unflattened(row, handle.params) for row in problem.vectors(count)]

    def run() -> Tensor:
        return torch.stack(
            [flat(hessian_vector_product(handle.gradsH, handle.params, v)) for v in vectors]
        )

    return Job(run)


def pyhessian_handle(problem: Problem):
    """Of a copy of the net, whose gradients it fills."""
    from pyhessian import hessian

    own = problem.own()
    cuda = problem.device.type == "cuda"
    return hessian(own.model, torch.nn.CrossEntropyLoss(), data=(own.x, own.y), cuda=cuda)


def _unflattened(row: Tensor, params: list[Tensor]) -> list[Tensor]:
    parts = row.split([p.numel() for p in params])
    return [part.reshape(p.shape) for part, p in zip(parts, params, strict=True)]


def _comparison(matrix: str, count: int, net: str) -> Comparison:
    peers = {"curvlinops": curvlinops, "hessian-eigenthings": eigenthings}
    contestants = {
        OURS: partial(ours, matrix=matrix, count=count),
        **{name: partial(peer, matrix=matrix, count=count) for name, peer in peers.items()},
    }
    if matrix == "hessian":
        contestants["PyHessian"] = partial(pyhessian, count=count)
    once = {"hessian": flops.hessian_product, "ggn": flops.ggn_product}[matrix]
    label = {"hessian": "Hessian", "ggn": "GGN"}[matrix]
    return Comparison(
        work=f"{label}-vector product, {count} vector{'s' if count > 1 else ''}",
        net=net,
        examples=500 if net == "cnn" and count > 1 else None,
        contestants=contestants,
        target=2.0,
        flops=lambda problem: count * once(problem),
    )


COMPARISONS = [
    *(
        _comparison(matrix, count, net)
        for net in ("mlp", "cnn")
        for matrix in ("hessian", "ggn")
        for count in (1, 10)
    ),
    *(
        _comparison(matrix, 1, net)
        for net in ("resnet", "transformer")
        for matrix in ("hessian", "ggn")
    ),
]
