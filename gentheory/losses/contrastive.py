"""The supervised contrastive loss: of a batch, not of an example."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from gentheory.errors import InputError
from gentheory.losses.base import Loss, check_targets


@dataclass(frozen=True)
class SupervisedContrastive(Loss):
    """Pulls the outputs of one class together on the sphere (Khosla et al. 2020, their L_out).

    With z = f / |f|, A(i) the other examples of the batch and P(i) those of i's class among them,
    anchor i has the loss

        -1 / |P(i)| Σ_{p in P(i)} log( exp(z_i·z_p / τ) / Σ_{a in A(i)} exp(z_i·z_a / τ) ),

    and 0 without any of its class. An example has no loss of its own: `among` gives it one in the
    company of the others, and whatever asks for more is refused. Outside of training the company
    are the examples of blocks of `block` in their order. A class is told by the nearest class
    mean on the sphere.
    """

    block: ClassVar[int | None] = 256
    temperature: float

    def mean(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, ""]:
        return self.among(outputs, targets).mean()

    def among(self, outputs: Float[Tensor, "B C"], targets: Tensor) -> Float[Tensor, " B"]:
        z = F.normalize(outputs.double(), dim=-1)
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        closeness = z @ z.mT / self.temperature
        # Not minus infinity, whose gradient is nan where a batch has one example only.
        others = closeness.masked_fill(itself, torch.finfo(z.dtype).min)
        same = (targets[:, None] == targets) & ~itself
        surprise = others.logsumexp(-1, keepdim=True) - closeness
        return torch.where(same, surprise, 0).sum(-1) / same.sum(-1).clamp(min=1)

    def check(self, targets: Tensor, num_outputs: int, *, start: int = 0) -> None:
        check_targets(targets, num_outputs, start)
        if targets.dim() > 1:
            raise InputError(
                f"loss {self.name!r}",
                f"targets of shape {tuple(targets.shape)}",
                "classes [B] of torch.int64",
                "train with classes, not with probabilities",
            )


def supervised_contrastive(temperature: float = 0.1) -> Loss:
    """The loss with this temperature τ > 0."""
    name = "supervised_contrastive"
    if not temperature > 0:
        raise InputError(f"loss {name!r}, temperature", f"{temperature}", "above 0", "raise it")

    def refused(outputs: Tensor, targets: Tensor) -> Tensor:
        raise InputError(
            f"loss {name!r}",
            "a loss that an example has only among others",
            "a loss of each example, which a measure needs",
            "measure what looks at the parameters alone, or train with another loss",
        )

    return SupervisedContrastive(name, refused, temperature)


def class_means(
    outputs: Float[Tensor, "... N D"], targets: Int[Tensor, "... N"], num_classes: int
) -> Float[Tensor, "... C D"]:
    """Mean directions of the classes, 0 for one without examples."""
    z = F.normalize(outputs.double(), dim=-1)
    member = targets[..., None] == torch.arange(num_classes, device=targets.device)
    return F.normalize(member.to(z).mT @ z, dim=-1)
