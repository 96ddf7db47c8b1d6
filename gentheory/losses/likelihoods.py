"""Losses that are negative log-likelihoods of the target given the outputs, up to a constant."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from gentheory.losses.base import Loss, check_targets, one_hot, share


class CrossEntropy(Loss):
    """Softmax cross-entropy; targets are classes [B] or probabilities [B, C].

    In float64 for outputs of any dtype: where the data are fitted, p - y and the determinant of
    diag(p) - p pᵀ have no digits left in float32.
    """

    def check(self, targets: Tensor, num_outputs: int, *, start: int = 0) -> None:
        check_targets(targets, num_outputs, start)

    def wanted(self, targets: Tensor, outputs: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """The probabilities at which an example's loss is least, times its weight."""
        return one_hot(targets, outputs)

    def gradient(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, "B C"]:
        outputs = outputs.double()
        wanted = self.wanted(targets, outputs)
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
        wanted = self.wanted(targets, residuals.double())
        p = (residuals + wanted).clamp(min=0)  # below only by rounding
        mass = wanted.sum(-1)[:, None, None]
        p = p / p.sum(-1, keepdim=True)
        middle = mass * (torch.diag_embed(p) - p[:, :, None] * p[:, None, :])
        return middle * share(traces, middle)

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


class MeanSquaredError(Loss):
    """Mean over the outputs of (f - y)², as `torch.nn.MSELoss`; targets [B, C] or classes [B]."""

    def check(self, targets: Tensor, num_outputs: int, *, start: int = 0) -> None:
        check_targets(targets, num_outputs, start)

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


def cross_entropy_values(outputs: Tensor, targets: Tensor) -> Tensor:
    outputs = outputs.double()
    targets = targets.to(outputs) if targets.is_floating_point() else targets
    return F.cross_entropy(outputs, targets, reduction="none")


def _mse_values(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - one_hot(targets, outputs)).square().mean(-1)


cross_entropy: Loss = CrossEntropy("cross_entropy", cross_entropy_values)
mse: Loss = MeanSquaredError("mse", _mse_values)
