"""Per-example losses, with what curvature needs of them in the outputs.

A loss is the negative log-likelihood of the target given the outputs `f`, up to a constant:
`cross_entropy` of a categorical, `mse` of a normal with variance C / 2. That likelihood is the one
the Fisher information samples from. A callable has no known likelihood: everything but the
Fisher works with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from gentheory.errors import InputError

PerExample = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss by its per-example values; derivatives in the outputs come from autograd."""

    name: str
    values: PerExample
    """(outputs [B, C], targets [B, ...]) -> [B]."""

    def gradient(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C"]:
        """r_i, the gradient of each example's loss in its outputs."""
        return torch.func.grad(lambda f: self.values(f, targets).sum())(outputs)

    def hessian(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C C"]:
        """Λ_i, the Hessian of each example's loss in its outputs."""

        def one(f: Tensor, target: Tensor) -> Tensor:
            return self.values(f[None], target[None])[0]

        return torch.func.vmap(torch.func.hessian(one))(outputs, targets)

    def hessian_trace(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, " B"]:
        """tr Λ_i."""
        return self.hessian(outputs, targets).diagonal(dim1=1, dim2=2).sum(1)

    def mean_hessian(
        self,
        residuals: Float[Tensor, "B C"],
        traces: Float[Tensor, " B"],
        outputs: Float[Tensor, "B C"],
        targets: Tensor,
    ) -> Float[Tensor, "B C C"]:
        """About the mean of Λ_i over a time, of which r_i and tr Λ_i are known on average.

        `outputs` are those at the end of that time. Λ_i there, with the mean trace.
        """
        last = self.hessian(outputs, targets).double()
        return last * _share(traces, last)

    def directions(
        self, outputs: Float[Tensor, "B C"], targets: Tensor
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C C"]]:
        """(w, d) with Λ_i = Σ_k w_ik d_ik d_ikᵀ, one term an output, where Λ_i is semidefinite.

        Of a callable the columns of Λ_i's symmetric root, with weights 1.
        """
        values, vectors = torch.linalg.eigh(self.hessian(outputs, targets).double())
        root = torch.einsum("bce,be,bde->bcd", vectors, values.clamp(min=0).sqrt(), vectors)
        return torch.ones_like(values), root

    def check(self, targets: Tensor, num_outputs: int, *, start: int = 0) -> None:
        """Raise `InputError` for a target that this loss cannot take; `start` counts from there.

        A callable knows its own targets: none is refused.
        """

    def fisher(self, outputs: Float[Tensor, "B C"]) -> Float[Tensor, "B C C"]:
        """E[r rᵀ] over targets drawn from the model itself."""
        raise self._no_likelihood()

    def sample(self, outputs: Float[Tensor, "B C"], generator: Generator) -> Tensor:
        """One target per example, drawn from the model itself."""
        raise self._no_likelihood()

    def _no_likelihood(self) -> InputError:
        return InputError(
            f"loss {self.name!r}",
            "a callable without a likelihood",
            "'cross_entropy' or 'mse' where the Fisher information is asked for",
            'use curvature="ggn"',
        )


class _CrossEntropy(Loss):
    """Softmax cross-entropy; targets are classes [B] or probabilities [B, C].

    In float64 for outputs of any dtype: where the data are fitted, p - y and the determinant of
    diag(p) - p pᵀ have no digits left in float32.
    """

    def check(self, targets: Tensor, num_outputs: int, *, start: int = 0) -> None:
        _check_targets(targets, num_outputs, start)

    def gradient(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C"]:
        outputs = outputs.double()
        wanted = one_hot(targets, outputs)
        return outputs.softmax(-1) * wanted.sum(-1, keepdim=True) - wanted

    def hessian(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C C"]:
        p = outputs.double().softmax(-1)
        mass = one_hot(targets, outputs.double()).sum(-1)[:, None, None]
        return mass * (torch.diag_embed(p) - p[:, :, None] * p[:, None, :])

    def hessian_trace(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, " B"]:
        p = outputs.double().softmax(-1)
        return one_hot(targets, p).sum(-1) * (1 - p.square().sum(-1))

    def mean_hessian(
        self,
        residuals: Float[Tensor, "B C"],
        traces: Float[Tensor, " B"],
        outputs: Float[Tensor, "B C"],
        targets: Tensor,
    ) -> Float[Tensor, "B C C"]:
        """Λ_i at the mean probabilities, r̄ + y, with the mean trace: averages of the same time."""
        wanted = one_hot(targets, residuals.double())
        p = (residuals + wanted).clamp(min=0)  # below only by rounding
        mass = wanted.sum(-1)[:, None, None]
        p = p / p.sum(-1, keepdim=True)
        middle = mass * (torch.diag_embed(p) - p[:, :, None] * p[:, None, :])
        return middle * _share(traces, middle)

    def directions(
        self, outputs: Float[Tensor, "B C"], targets: Tensor
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C C"]]:
        # The gradient for each class as the target, weighed by its probability.
        p = outputs.double().softmax(-1)
        mass = one_hot(targets, outputs.double()).sum(-1, keepdim=True)
        return mass * p, p[:, None, :] - torch.eye(p.shape[1], dtype=p.dtype, device=p.device)

    def fisher(self, outputs: Float[Tensor, "B C"]) -> Float[Tensor, "B C C"]:
        # Summed over the classes one by one: another route than `hessian`, which it must equal.
        p = outputs.double().softmax(-1)
        r = p[:, None, :] - torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
        return torch.einsum("bk,bkc,bkd->bcd", p, r, r)

    def sample(self, outputs: Float[Tensor, "B C"], generator: Generator) -> Tensor:
        return torch.multinomial(outputs.softmax(-1), 1, generator=generator)[:, 0]


class _MeanSquaredError(Loss):
    """Mean over the outputs of (f - y)², as `torch.nn.MSELoss`; targets [B, C] or classes [B]."""

    def check(self, targets: Tensor, num_outputs: int, *, start: int = 0) -> None:
        _check_targets(targets, num_outputs, start)

    def gradient(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C"]:
        return 2 / outputs.shape[1] * (outputs - one_hot(targets, outputs))

    def hessian(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C C"]:
        return self.fisher(outputs)

    def fisher(self, outputs: Float[Tensor, "B C"]) -> Float[Tensor, "B C C"]:
        eye = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
        return (2 / outputs.shape[1] * eye).expand(len(outputs), -1, -1)

    def sample(self, outputs: Float[Tensor, "B C"], generator: Generator) -> Tensor:
        noise = torch.empty_like(outputs).normal_(generator=generator)
        return outputs + (outputs.shape[1] / 2) ** 0.5 * noise


def _share(traces: Float[Tensor, " B"], middle: Float[Tensor, "B C C"]) -> Float[Tensor, "B 1 1"]:
    """By which the matrices get these traces; never above 1, for spread only lowers a trace."""
    own = middle.diagonal(dim1=1, dim2=2).sum(1)
    share = torch.where(own > 0, traces.double() / own, 0.0)
    return share.clamp(0, 1)[:, None, None]


def one_hot(targets: Tensor, outputs: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Targets as rows of outputs' shape and dtype: classes become unit vectors."""
    if targets.dim() == outputs.dim():
        return targets.to(outputs.dtype)
    # F.one_hot looks at the values, which vmap does not allow.
    classes = torch.arange(outputs.shape[-1], device=targets.device)
    return (targets[..., None] == classes).to(outputs.dtype)


def _check_targets(targets: Tensor, num_outputs: int, start: int) -> None:
    """Classes [B] within the outputs, or finite rows [B, C]."""
    classes = targets.dim() == 1 and targets.dtype == torch.int64
    if not classes and targets.shape[1:] != (num_outputs,):
        raise InputError(
            "data, targets",
            f"{targets.dtype} of shape {tuple(targets.shape)}",
            f"classes [B] of torch.int64, or [B, {num_outputs}] for {num_outputs} outputs",
            "convert them, such as with .long()",
        )
    in_range = (targets >= 0) & (targets < num_outputs)
    good = in_range if classes else targets.isfinite().all(1)
    if not good.all():
        first = int(good.int().argmin())
        raise InputError(
            f"data, example {start + first}",
            f"target {targets[first].tolist()}",
            f"a class of 0 to {num_outputs - 1}" if classes else "finite numbers",
            "correct or drop it, or give the model more outputs",
        )


def _cross_entropy_values(outputs: Tensor, targets: Tensor) -> Tensor:
    outputs = outputs.double()
    targets = targets.to(outputs) if targets.is_floating_point() else targets
    return F.cross_entropy(outputs, targets, reduction="none")


def _mse_values(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - one_hot(targets, outputs)).square().mean(-1)


cross_entropy: Loss = _CrossEntropy("cross_entropy", _cross_entropy_values)
mse: Loss = _MeanSquaredError("mse", _mse_values)


def resolve(loss: str | PerExample | Loss) -> Loss:
    """The loss of this name, or a callable (outputs, targets) -> [B] made into one."""
    if isinstance(loss, Loss):
        return loss
    if callable(loss):
        return Loss(getattr(loss, "__name__", type(loss).__name__), loss)
    known = {"cross_entropy": cross_entropy, "mse": mse}
    if loss not in known:
        raise InputError(
            "loss",
            repr(loss),
            "'cross_entropy', 'mse' or a callable (outputs, targets) -> [B]",
            "use one of these",
        )
    return known[loss]
