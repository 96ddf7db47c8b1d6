"""Losses and accuracies of a stack. The only place that reads test data."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
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
    num_test: int

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
    *,
    statistics: Mapping[str, Tensor] | None = None,
) -> Evaluation:
    """Means in float64 over all training and all test examples."""

    def on(data: Split) -> tuple[Float[Tensor, "M N"], Bool[Tensor, "M N"]]:
        examples = (data.inputs, data.targets)
        return example_losses(module, loss, theta, *examples, statistics=statistics)

    (on_train, hits_train), (on_test, hits_test) = on(train), on(test)
    return Evaluation(
        on_train.mean(1),
        on_test.mean(1),
        hits_train.double().mean(1),
        hits_test.double().mean(1),
        on_test.std(1) / len(test) ** 0.5,
        len(test),
    )


def example_losses(
    module: nn.Module,
    loss: Loss,
    theta: Float[Tensor, "M P"],
    inputs: Tensor,
    targets: Tensor,
    rows: Int[Tensor, "M N"] | None = None,
    *,
    statistics: Mapping[str, Tensor] | None = None,
) -> tuple[Float[Tensor, "M N"], Bool[Tensor, "M N"]]:
    """Each model's loss of each example in float64, and whether its largest output is right.

    The arguments are those of `stacked_outputs`.
    """
    losses: list[Tensor] = []
    hits: list[Tensor] = []
    chunks = stacked_outputs(module, theta, inputs, targets, rows, statistics=statistics)
    for outputs, y in chunks:
        losses.append(per_example(loss.values, outputs, y).double())
        hits.append(outputs.argmax(-1) == y)
    return torch.cat(losses, dim=1), torch.cat(hits, dim=1)


def stacked_outputs(
    module: nn.Module,
    theta: Float[Tensor, "M P"],
    inputs: Tensor,
    targets: Tensor,
    rows: Int[Tensor, "M N"] | None = None,
    *,
    statistics: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[Float[Tensor, "M B C"], Int[Tensor, "M B"]]]:
    """Each model's outputs, with the targets, in chunks of bounded memory; nothing is recorded.

    A model sees all inputs in their order, or those at its `rows`. `targets` is [N], or [M, N]
    where each model has its own. `statistics` are the models' running statistics [M, ...], by
    name; without any they have the module's. The module is in eval mode meanwhile.
    """
    layout = Layout.of(module)

    def one(theta: Tensor, own: dict[str, Tensor], x: Tensor) -> Tensor:
        # Copied: a first layer that works in place would write into the data.
        return torch.func.functional_call(module, layout.unflatten(theta) | own, (x.clone(),))

    stacked = torch.func.vmap(one, in_dims=(0, 0, None if rows is None else 0))
    carried = dict(statistics or {})
    size = max(1, _ACTIVATIONS // (len(theta) * inputs[0].numel()))
    for x, y in _chunks(inputs, targets.expand(len(theta), -1), rows, size):
        with torch.no_grad(), _in_eval_mode(module):
            outputs = stacked(theta, carried, x.to(theta.dtype))
        yield outputs, y


def per_example(
    function: Callable[[Tensor, Tensor], Tensor],
    outputs: Float[Tensor, "M B C"],
    targets: Int[Tensor, "M B"],
) -> Tensor:
    """A function of (outputs [B, C], targets [B]) for every model of a stack: [M, B, ...]."""
    found = function(outputs.flatten(0, 1), targets.flatten(0, 1))
    return found.unflatten(0, targets.shape)


@contextmanager
def _in_eval_mode(module: nn.Module) -> Generator[None, None, None]:
    training = [part for part in module.modules() if part.training]
    try:
        for part in training:
            part.training = False
        yield
    finally:
        for part in training:
            part.training = True


def _chunks(
    inputs: Tensor, targets: Int[Tensor, "M N"], rows: Int[Tensor, "M N"] | None, size: int
) -> Iterator[tuple[Tensor, Int[Tensor, "M B"]]]:
    if rows is None:
        yield from zip(inputs.split(size), targets.split(size, dim=1), strict=True)
        return
    for own in rows.to(inputs.device).split(size, dim=1):
        yield inputs[own], targets.gather(1, own)
