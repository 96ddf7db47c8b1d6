"""Losses and accuracies of a stack. The only place that reads test data."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gentheory.data.split import Split
from gentheory.losses import Loss
from gentheory.params import Layout

_ACTIVATIONS = 2**21
"""Inputs' numbers at once over the whole stack, so that memory stays flat in M and N."""


@dataclass(frozen=True)
class Evaluation:
    """Training and test figures of M models; the gap is test minus training loss."""

    train_loss: Float[Tensor, " M"]
    test_loss: Float[Tensor, " M"]
    train_accuracy: Float[Tensor, " M"]
    test_accuracy: Float[Tensor, " M"]
    gap_stderr: Float[Tensor, " M"]  # sampling of the test examples; the training set is given

    @property
    def gap(self) -> Float[Tensor, " M"]:
        """Test loss minus training loss."""
        return self.test_loss - self.train_loss


def evaluate(
    module: nn.Module,
    loss: Loss,
    theta: Float[Tensor, "M P"],
    train: Split,
    test: Split,
) -> Evaluation:
    """Means in float64 over all training and all test examples."""
    on_train, hits_train = example_losses(module, loss, theta, train.inputs, train.targets)
    on_test, hits_test = example_losses(module, loss, theta, test.inputs, test.targets)
    return Evaluation(
        on_train.mean(1),
        on_test.mean(1),
        hits_train.double().mean(1),
        hits_test.double().mean(1),
        on_test.std(1) / len(test) ** 0.5,
    )


def output_gradients(
    module: nn.Module, loss: Loss, theta: Float[Tensor, "M P"], inputs: Tensor, targets: Tensor
) -> Float[Tensor, "M N C"]:
    """Each model's gradient of each example's loss in its outputs, in theta's dtype."""
    layout = Layout.of(module)

    def one(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        outputs = torch.func.functional_call(module, layout.unflatten(theta), (x,))
        return loss.gradient(outputs, y)

    stacked = torch.func.vmap(one, in_dims=(0, None, None))
    per_chunk = max(1, _ACTIVATIONS // (len(theta) * inputs[0].numel()))
    with torch.no_grad():
        parts = [
            stacked(theta, x.to(theta.dtype), y)
            for x, y in zip(inputs.split(per_chunk), targets.split(per_chunk), strict=True)
        ]
    return torch.cat(parts, dim=1)


def example_losses(
    module: nn.Module, loss: Loss, theta: Float[Tensor, "M P"], inputs: Tensor, targets: Tensor
) -> tuple[Float[Tensor, "M N"], Bool[Tensor, "M N"]]:
    """Each model's loss of each example in float64, and whether its largest output is right.

    `targets` is [N], or [M, N] where each model has its own.
    """
    layout = Layout.of(module)
    own_targets = targets.dim() == 2

    def one(theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = torch.func.functional_call(module, layout.unflatten(theta), (x,))
        return loss.values(outputs, y), outputs.argmax(-1) == y

    stacked = torch.func.vmap(one, in_dims=(0, None, 0 if own_targets else None))
    per_chunk = max(1, _ACTIVATIONS // (len(theta) * inputs[0].numel()))
    losses: list[Tensor] = []
    hits: list[Tensor] = []
    with torch.no_grad():
        for x, y in zip(inputs.split(per_chunk), targets.split(per_chunk, dim=-1), strict=True):
            values, right = stacked(theta, x.to(theta.dtype), y)
            losses.append(values.double())
            hits.append(right)
    return torch.cat(losses, dim=1), torch.cat(hits, dim=1)
