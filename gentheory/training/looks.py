"""What stopping rules see of a stack after an epoch, in eval mode, with weight decay.

The objective is the mean loss plus λ/2 |θ|², where the optimizer has such a term in it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gentheory.params import Layout
from gentheory.seeds import generator
from gentheory.training.evaluate import in_eval_mode
from gentheory.training.gradient import stacked_gradient
from gentheory.training.stack import Task
from gentheory.training.state import State

_CHUNK = 2**21
"""Inputs' numbers at once over the whole stack."""
_STEPS = 10
"""Of Lanczos' method: enough for the largest eigenvalue to a few percent."""
_EXAMPLES = 256
"""Whose curvature is watched; each model's first ones."""


def gradient_norms(
    task: Task, models: Int[Tensor, " M"], state: State, decay: Float[Tensor, "M 1"]
) -> Float[Tensor, " M"]:
    """Norms of the gradients of the objective over all of each model's examples; on the CPU."""
    gradient = stacked_gradient(task.module, task.loss.mean)
    total = torch.zeros_like(state.theta, dtype=torch.float64)
    size = task.loss.block or max(1, _CHUNK // (len(models) * task.data.inputs[0].numel()))
    for chunk in torch.arange(task.num_examples, device=state.theta.device).split(size):
        inputs, targets = task.batch(models, chunk.expand(len(models), -1), state.theta.dtype)
        with in_eval_mode(task.module):
            found, _ = gradient(state.theta, state.statistics, inputs, targets)
        total += len(chunk) * found.double()
    whole = (total / task.num_examples).addcmul_(state.theta.double(), decay.double())
    return torch.linalg.vector_norm(whole, dim=1).cpu()


def top_eigenvalues(
    task: Task, models: Int[Tensor, " M"], state: State, decay: Float[Tensor, "M 1"]
) -> Float[Tensor, " M"]:
    """Largest eigenvalues of the objective's Hessians on some examples; on the CPU.

    By Lanczos' method from below, from one random start that all models share.
    """
    count = min(_EXAMPLES, task.num_examples)
    examples = torch.arange(count, device=state.theta.device).expand(len(models), -1)
    inputs, targets = task.batch(models, examples, state.theta.dtype)
    layout = Layout.of(task.module)

    def value(theta: Tensor, statistics: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        tensors = layout.unflatten(theta) | statistics
        return task.loss.mean(torch.func.functional_call(task.module, tensors, (x,)), y)

    def one(theta: Tensor, own: dict[str, Tensor], x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        slope = torch.func.grad(value)
        return torch.func.jvp(lambda at: slope(at, own, x, y), (theta,), (v,))[1]

    def product(vectors: Tensor) -> Tensor:
        with in_eval_mode(task.module):
            return torch.func.vmap(one)(state.theta, state.statistics, inputs, targets, vectors)

    start = torch.randn(layout.size, generator=generator("largest eigenvalue"), dtype=torch.float64)
    found = _largest(product, start.to(state.theta).expand(len(models), -1))
    return (found + decay[:, 0].double()).cpu()


def _largest(
    product: Callable[[Tensor], Tensor], start: Float[Tensor, "M P"]
) -> Float[Tensor, " M"]:
    """The largest Ritz values of M symmetric matrices after some steps, fully orthogonalized."""
    basis = (start / torch.linalg.vector_norm(start, dim=1, keepdim=True))[:, None]
    projected = start.new_zeros(len(start), _STEPS, _STEPS, dtype=torch.float64)
    for step in range(_STEPS):
        w = product(basis[:, -1])
        column = torch.einsum("mkp,mp->mk", basis, w)
        projected[:, step, : step + 1] = projected[:, : step + 1, step] = column.double()
        length = torch.linalg.vector_norm(w, dim=1, keepdim=True)
        for _ in range(2):
            w = w - torch.einsum("mkp,mk->mp", basis, torch.einsum("mkp,mp->mk", basis, w))
        beta = torch.linalg.vector_norm(w, dim=1, keepdim=True)
        # Below rounding nothing is left to find: a row of zeros adds an eigenvalue 0.
        noise = 10 * torch.finfo(w.dtype).eps * length
        basis = torch.cat([basis, torch.where(beta > noise, w / beta, 0)[:, None]], dim=1)
    return torch.linalg.eigvalsh(projected)[:, -1]
