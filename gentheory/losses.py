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
    """Softmax cross-entropy; targets are classes [B] or probabilities [B, C]."""

    def gradient(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C"]:
        wanted = one_hot(targets, outputs)
        return outputs.softmax(-1) * wanted.sum(-1, keepdim=True) - wanted

    def hessian(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C C"]:
        p = outputs.softmax(-1)
        mass = one_hot(targets, outputs).sum(-1)[:, None, None]
        return mass * (torch.diag_embed(p) - p[:, :, None] * p[:, None, :])

    def fisher(self, outputs: Float[Tensor, "B C"]) -> Float[Tensor, "B C C"]:
        # Summed over the classes one by one: another route than `hessian`, which it must equal.
        p = outputs.softmax(-1)
        r = p[:, None, :] - torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
        return torch.einsum("bk,bkc,bkd->bcd", p, r, r)

    def sample(self, outputs: Float[Tensor, "B C"], generator: Generator) -> Tensor:
        return torch.multinomial(outputs.softmax(-1), 1, generator=generator)[:, 0]


class _MeanSquaredError(Loss):
    """Mean over the outputs of (f - y)², as `torch.nn.MSELoss`; targets [B, C] or classes [B]."""

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


def one_hot(targets: Tensor, outputs: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Targets as rows of outputs' shape and dtype: classes become unit vectors."""
    if targets.dim() == outputs.dim():
        return targets.to(outputs.dtype)
    if targets.is_floating_point():
        raise InputError(
            "targets",
            f"real numbers of shape {tuple(targets.shape)}",
            f"classes [B], or real numbers of the outputs' shape {tuple(outputs.shape)}",
            "reshape them, as in targets[:, None]",
        )
    return F.one_hot(targets, outputs.shape[-1]).to(outputs.dtype)


def _cross_entropy_values(outputs: Tensor, targets: Tensor) -> Tensor:
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
