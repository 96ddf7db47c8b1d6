"""Squared norms of the 2,000 per-example gradients of the loss."""

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import flops
from benchmarks.contest import OURS, Comparison, Job
from benchmarks.nets import Problem
from gentheory.factors.ghost import gradient_norms

_CHUNK = 50
"""Examples at once for vmap: on CPU the fastest of 10 to 2,000, and the Jacobian stays small."""


def ours(problem: Problem) -> Job:
    risk = problem.risk()
    return Job(lambda: gradient_norms(risk))


def backpack(problem: Problem) -> Job:
    from backpack import backpack, extend
    from backpack.extensions import BatchL2Grad

    own = problem.own()
    model, loss = extend(own.model), extend(torch.nn.CrossEntropyLoss(reduction="sum"))

    def run() -> Tensor:
        for p in own.params:
            p.grad = None
        with backpack(BatchL2Grad()):
            loss(model(own.x), own.y).backward()
        return sum(p.batch_l2 for p in own.params)

    return Job(run)


def torch_func(problem: Problem) -> Job:
    """Gradients by vmap, a chunk of examples at a time."""
    params = dict(problem.model.named_parameters())

    def squared(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        def loss(params: dict[str, Tensor]) -> Tensor:
            outputs = torch.func.functional_call(problem.model, params, (x[None],))
            return F.cross_entropy(outputs, y[None])

        gradients = torch.func.grad(loss)(params)
        return sum(g.square().sum() for g in gradients.values())

    chunk = None if problem.device.type == "cuda" else _CHUNK
    norms = torch.func.vmap(squared, in_dims=(None, 0, 0), chunk_size=chunk)
    detached = {name: p.detach() for name, p in params.items()}
    return Job(lambda: norms(detached, problem.x, problem.y))


COMPARISONS = [
    Comparison(
        work="per-example gradient norms",
        net=net,
        contestants={OURS: ours, "BackPACK": backpack, "torch.func": torch_func},
        target=1.5,
        flops=flops.gradient_norms,
        notes={"BackPACK": "BatchL2Grad", "torch.func": f"vmap of grad, {_CHUNK} examples at once"},
    )
    for net in ("mlp", "cnn")
]
