"""What a loss is: values an example, and what curvature needs of them in the outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.errors import InputError

PerExample = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss by its per-example values; derivatives in the outputs come from autograd."""

    block: ClassVar[int | None] = None
    """As many examples as are looked at together where one's loss depends on the others."""

    name: str
    values: PerExample
    """(outputs [B, C], targets [B, ...]) -> [B]."""

    def mean(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, ""]:
        """What training lowers: the mean over a batch."""
        return self.values(outputs, targets).mean()

    def among(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, " B"]:
        """Each example's loss in the company of the others."""
        return self.values(outputs, targets)

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
        return last * share(traces, last)

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

    def score(self, outputs: Float[Tensor, "B C"], samples: Tensor) -> Float[Tensor, "B C"]:
        """Gradients in the outputs of -log likelihood, at targets that `sample` drew."""
        return self.gradient(outputs, samples)

    def _no_likelihood(self) -> InputError:
        return InputError(
            f"loss {self.name!r}",
            f"a {'callable' if type(self) is Loss else 'loss'} without a likelihood",
            "'cross_entropy' or 'mse' where the Fisher information is asked for",
            'use curvature="ggn"',
        )


def share(traces: Float[Tensor, " B"], middle: Float[Tensor, "B C C"]) -> Float[Tensor, "B 1 1"]:
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


def check_targets(targets: Tensor, num_outputs: int, start: int) -> None:
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
