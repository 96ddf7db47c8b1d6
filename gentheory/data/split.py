"""Examples with their targets in a fixed order: what every loader returns."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from gentheory.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """N examples in a fixed order, their targets classes or real numbers; checked once when made.

    Raises `InputError` for tensors of another type or length, for no example at all, for an input
    or a real target that is nan or infinite and for a class outside 0 .. num_classes - 1; the last
    ones name the first bad example. Splits may be shared: never change their tensors in place.

    >>> Split(torch.zeros(2, 3), torch.tensor([0, 1]), num_classes=2, name="tiny").shape
    torch.Size([3])
    """

    inputs: Tensor
    """Float32, [N, ...]."""
    targets: Tensor
    """Int64, [N], each in 0 .. num_classes - 1; or real numbers: float32, [N, num_classes]."""
    num_classes: int
    """Or how many real numbers an example has for targets: the outputs of a net, either way."""
    name: str
    """What messages call it, such as "mnist.train"."""

    def __post_init__(self) -> None:
        _check_form(self)
        _check_finite(self.inputs, place=f"{self.name} inputs")
        if self.real:
            _check_finite(self.targets, place=f"{self.name} targets")
        else:
            check_targets(self.targets, self.num_classes, place=f"{self.name} targets")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def real(self) -> bool:
        """Whether the targets are real numbers rather than classes."""
        return self.targets.is_floating_point()

    @property
    def shape(self) -> torch.Size:
        """Shape of one example."""
        return self.inputs.shape[1:]

    def take(self, indices: Tensor) -> "Split":
        """The examples at `indices` (int64, [B]), in that order; an index may occur more than once.

        Raises `InputError` for an index outside 0 .. N - 1 and for anything but a list of int64,
        such as a mask.
        """
        if indices.dtype != torch.int64 or indices.ndim != 1:
            raise InputError(
                f"{self.name} indices",
                f"{indices.dtype} of shape {tuple(indices.shape)}",
                "a list of torch.int64",
                "hand in positions, such as mask.nonzero().flatten()",
            )
        _check_range(indices, len(self), place=f"{self.name} indices", kind="index")
        return Split(self.inputs[indices], self.targets[indices], self.num_classes, self.name)


def check_targets(targets: Int64[Tensor, " N"], num_classes: int, *, place: str) -> None:
    """Raise `InputError` unless all targets lie in 0 .. num_classes - 1."""
    if num_classes < 1:
        raise InputError(place, f"{num_classes} classes", "at least 1", "correct num_classes")
    _check_range(targets, num_classes, place=place, kind="target")


def _check_range(values: Int64[Tensor, " N"], stop: int, *, place: str, kind: str) -> None:
    bad = (values < 0) | (values >= stop)
    if bad.any():
        first = int(bad.int().argmax())
        raise InputError(
            place,
            f"{kind} {int(values[first])} at position {first}",
            f"0 to {stop - 1}",
            f"correct it and the {int(bad.sum()) - 1} others like it",
        )


def _check_form(split: Split) -> None:
    inputs, targets = split.inputs, split.targets
    real = targets.dtype == torch.float32 and targets.shape[1:] == (split.num_classes,)
    if inputs.dtype != torch.float32 or not (real or targets.dtype == torch.int64):
        raise InputError(
            split.name,
            f"inputs of {inputs.dtype} and targets of {targets.dtype}",
            "torch.float32 and torch.int64",
            "convert them with .float() and .long()",
        )
    if (
        inputs.ndim < 1
        or targets.ndim != 1 + real
        or len(inputs) != len(targets)
        or len(targets) == 0
    ):
        raise InputError(
            split.name,
            f"inputs of shape {tuple(inputs.shape)} and targets of shape {tuple(targets.shape)}",
            "[N, ...] and [N] with N of at least 1",
            "hand in one target for each example",
        )


def _check_finite(inputs: Float32[Tensor, "N ..."], *, place: str) -> None:
    # A finite sum proves finite terms, at a hundredth of the cost of looking at each one.
    if inputs.sum().isfinite():
        return
    finite = inputs.isfinite().reshape(len(inputs), -1).all(1)
    if not finite.all():
        first = int(finite.int().argmin())
        kind = "nan" if inputs[first].isnan().any() else "an infinite number"
        raise InputError(
            place,
            f"{kind} in example {first}",
            "finite numbers",
            f"mend or drop the {int((~finite).sum())} examples that are not finite",
        )
