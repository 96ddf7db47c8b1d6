"""Losses and accuracies of a stack. The only place that reads test data."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from gentheory.data.split import Split
from gentheory.losses import Loss, cross_entropy
from gentheory.losses.contrastive import class_means
from gentheory.params import Layout
from gentheory.training.apart import apart, faster_apart
from gentheory.training.layers import Tensors
from gentheory.training.tape import stacked

_ACTIVATIONS = 2**21
"""Inputs' numbers at once over the whole stack, so that memory stays flat in M and N."""

_IN_CACHE, _FEWEST = 2**18, 64
"""So many, of examples enough for a matrix product, are faster on a CPU."""


@dataclass(frozen=True)
class Evaluation:
    """Training and test figures of M models; the gap is test minus training loss.

    Accuracies are nan where targets are real numbers.
    """

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
    """Means in float64 over all training and all test examples.

    Where the loss is one of batches, a class is told by the nearest mean of the training examples'.
    """
    (found,) = evaluations(module, loss, theta, train, [test], statistics=statistics)
    return found


def evaluations(
    module: nn.Module,
    loss: Loss,
    theta: Float[Tensor, "M P"],
    train: Split,
    tests: Sequence[Split],
    *,
    statistics: Mapping[str, Tensor] | None = None,
) -> list[Evaluation]:
    """What `evaluate` says of each of these test data, after one look at the training data."""
    centres = _centres(module, theta, train, statistics) if loss.block else None

    def on(data: Split) -> tuple[Float[Tensor, "M N"], Shaped[Tensor, "M N"]]:
        examples = (data.inputs, data.targets)
        return example_losses(
            module, loss, theta, *examples, statistics=statistics, centres=centres
        )

    on_train, hits_train = on(train)
    return [
        Evaluation(
            on_train.mean(1),
            on_test.mean(1),
            hits_train.double().mean(1),
            hits_test.double().mean(1),
            on_test.std(1) / len(test) ** 0.5,
            len(test),
        )
        for test, (on_test, hits_test) in zip(tests, map(on, tests), strict=True)
    ]


def example_losses(
    module: nn.Module,
    loss: Loss,
    theta: Float[Tensor, "M P"],
    inputs: Tensor,
    targets: Tensor,
    rows: Int[Tensor, "M N"] | None = None,
    *,
    statistics: Mapping[str, Tensor] | None = None,
    centres: Float[Tensor, "M C D"] | None = None,
) -> tuple[Float[Tensor, "M N"], Shaped[Tensor, "M N"]]:
    """Each model's loss of each example in float64, and whether its largest output is right.

    With `centres` it is right if that of its class is the nearest; nan where there are no classes.
    A loss of batches is that of blocks of examples in their order. The other arguments are those
    of `stacked_outputs`.
    """
    losses: list[Tensor] = []
    hits: list[Tensor] = []
    chunks = stacked_outputs(
        module, theta, inputs, targets, rows, statistics=statistics, block=loss.block
    )
    for outputs, y in chunks:
        losses.append(_among(loss, outputs, y))
        towards = outputs if centres is None else outputs.double() @ centres.mT
        real = y.is_floating_point()
        hits.append(losses[-1] * torch.nan if real else towards.argmax(-1) == y)
    return torch.cat(losses, dim=1), torch.cat(hits, dim=1)


def mean_losses(
    module: nn.Module,
    loss: Loss,
    theta: Float[Tensor, "M P"],
    inputs: Tensor,
    targets: Tensor,
    rows: Int[Tensor, "M N"] | None = None,
    *,
    statistics: Mapping[str, Tensor] | None = None,
) -> Float[Tensor, " M"]:
    """The means of what `example_losses` returns, without looking which outputs are right."""
    chunks = stacked_outputs(
        module, theta, inputs, targets, rows, statistics=statistics, block=loss.block
    )
    sums = torch.stack([_among(loss, outputs, y).sum(1) for outputs, y in chunks])
    return sums.sum(0) / (len(inputs) if rows is None else rows.shape[1])


def _among(
    loss: Loss, outputs: Float[Tensor, "M B C"], targets: Shaped[Tensor, "M B ..."]
) -> Float[Tensor, "M B"]:
    if loss is cross_entropy and not targets.is_floating_point():
        # The same values; over few classes on the last axis they take five times as long.
        return F.cross_entropy(outputs.mT.double(), targets, reduction="none")
    if loss.block is None:
        return per_example(loss.values, outputs, targets).double()
    blocks = zip(outputs.split(loss.block, 1), targets.split(loss.block, 1), strict=True)
    return torch.cat([torch.func.vmap(loss.among)(f, y) for f, y in blocks], dim=1).double()


def _centres(
    module: nn.Module,
    theta: Float[Tensor, "M P"],
    train: Split,
    statistics: Mapping[str, Tensor] | None,
) -> Float[Tensor, "M C D"]:
    examples = (train.inputs, train.targets)
    found = list(stacked_outputs(module, theta, *examples, statistics=statistics))
    outputs, targets = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    return class_means(outputs, targets, train.num_classes)


def stacked_outputs(
    module: nn.Module,
    theta: Float[Tensor, "M P"],
    inputs: Tensor,
    targets: Tensor,
    rows: Int[Tensor, "M N"] | None = None,
    *,
    statistics: Mapping[str, Tensor] | None = None,
    block: int | None = None,
) -> Iterator[tuple[Float[Tensor, "M B C"], Shaped[Tensor, "M B ..."]]]:
    """Each model's outputs, with the targets, in chunks of bounded memory; nothing is recorded.

    Chunks are of whole blocks, where there are blocks, but for the last.

    A model sees all inputs in their order, or those at its `rows`. `targets` is [N], or [M, N]
    where each model has its own; real ones are [N, C]. `statistics` are the models' running
    statistics [M, ...], by name; without any they have the module's. The module is in eval mode
    meanwhile.
    """
    layer, tensors = stacked(module), Layout.of(module).unflatten(theta)
    size = _chunk_size(len(theta) * inputs[0].numel(), inputs.device)
    size = size if block is None else block * max(1, size // block)

    def run(tensors: Tensors, own: dict[str, Tensor], x: Tensor) -> Tensor:
        return layer(tensors, dict(own), x)[0]

    each = targets.shape if targets.is_floating_point() else (-1,)
    for x, y in _chunks(inputs, targets.expand(len(theta), *each), rows, size):
        own = x.to(theta.dtype)
        own = own.expand(len(theta), *own.shape) if rows is None else own
        with torch.no_grad(), in_eval_mode(module):
            given = (tensors, dict(statistics or {}), own)
            outputs = apart(run, *given) if faster_apart(module, own) else run(*given)
        yield outputs, y


def per_example(
    function: Callable[[Tensor, Tensor], Tensor],
    outputs: Float[Tensor, "M B C"],
    targets: Tensor,
) -> Tensor:
    """A function of (outputs [B, C], targets [B, ...]) for every model of a stack: [M, B, ...]."""
    found = function(outputs.flatten(0, 1), targets.flatten(0, 1))
    return found.unflatten(0, outputs.shape[:2])


def gathered(inputs: Tensor, rows: Int[Tensor, "M B"]) -> Tensor:
    """The inputs at each model's rows, [M, B, ...]: several times faster than `inputs[rows]`."""
    return inputs.index_select(0, rows.flatten()).unflatten(0, rows.shape)


@contextmanager
def in_eval_mode(module: nn.Module) -> Generator[None, None, None]:
    """The module in eval mode meanwhile, and afterwards as it was."""
    training = [part for part in module.modules() if part.training]
    try:
        for part in training:
            part.training = False
        yield
    finally:
        for part in training:
            part.training = True


def _chunk_size(numbers: int, device: torch.device) -> int:
    """Examples at once, each of so many numbers over the stack."""
    most = max(1, _ACTIVATIONS // numbers)
    return min(most, max(_FEWEST, _IN_CACHE // numbers)) if device.type == "cpu" else most


def _chunks(
    inputs: Tensor,
    targets: Shaped[Tensor, "M _ ..."],
    rows: Int[Tensor, "M N"] | None,
    size: int,
) -> Iterator[tuple[Tensor, Shaped[Tensor, "M B ..."]]]:
    if rows is None:
        yield from zip(inputs.split(size), targets.split(size, dim=1), strict=True)
        return
    for own in rows.to(inputs.device).split(size, dim=1):
        places = own.unflatten(1, (-1, *[1] * (targets.dim() - 2)))
        yield gathered(inputs, own), torch.take_along_dim(targets, places, dim=1)
