"""Layers of a stack: one batched operation for all models, forwards and backwards.

A layer takes (parameters, running statistics, inputs [M, B, ...]) and returns the outputs
[M, B, ...] with their pullback, which takes (gradient in the outputs, where the parameters'
gradients are written, whether the gradient in the inputs is asked for) and returns that gradient,
or None. New statistics replace those in the dictionary. With gradients disabled nothing is kept
for the pullback, which must not be called then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

Tensors: TypeAlias = Mapping[str, Tensor]
"""Parameters or their gradients, [M, ...] by name; views of a stack [M, P]."""

Pullback: TypeAlias = Callable[[Tensor, Tensors, bool], Tensor | None]

Layer: TypeAlias = Callable[[Tensors, dict[str, Tensor], Tensor], tuple[Tensor, Pullback]]


@dataclass(frozen=True)
class Linear:
    """W x + b: three batched products, of which the first layer of a net takes two.

    Products of small matrices are fastest as W @ x with examples along the columns: what comes
    out is a transposed view of [M, O, B], which elementwise layers keep as it is.
    """

    weight: str
    bias: str | None

    def __call__(
        self, tensors: Tensors, statistics: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, Pullback]:
        """[M, B, ..., I] -> [M, B, ..., O]."""
        weight, columns = tensors[self.weight], x.flatten(1, -2).mT
        bias = None if self.bias is None else tensors[self.bias][..., None]
        outputs = weight @ columns if bias is None else torch.baddbmm(bias, weight, columns)

        def pullback(gradient: Tensor, into: Tensors, wanted: bool) -> Tensor | None:
            own = gradient.flatten(1, -2).mT
            # Not written by the product: into views of a flat stack it would go one by one.
            into[self.weight].copy_(own @ columns.mT)
            if self.bias is not None:
                torch.sum(own, 2, out=into[self.bias])
            return _as_rows(weight.mT @ own, x) if wanted else None

        return _as_rows(outputs, x), pullback


def _as_rows(columns: Tensor, like: Tensor) -> Tensor:
    """[M, O, R] -> [M, B, ..., O]; in memory too where there are more axes than examples."""
    rows = columns.mT
    return rows if like.dim() == 3 else rows.contiguous().unflatten(1, like.shape[1:-1])


def laid_out(images: Tensor, like: Tensor) -> Tensor:
    """[M, B, C, height, width] in memory as others of this shape are; anything else as it is.

    What goes over two layouts number by number takes twenty times as long as over one.
    """
    if like.dim() < 5 or images.stride()[2:] == like.stride()[2:]:
        return images
    return torch.empty_like(like).copy_(images)


@dataclass(frozen=True)
class ReLU:
    """max(x, 0), with the derivative 0 at 0."""

    fresh: bool = False
    """Whether nobody else needs the inputs, so that the outputs can take their place."""

    def __call__(
        self, tensors: Tensors, statistics: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, Pullback]:
        """[M, B, ...] -> the same."""
        outputs = x.relu_() if self.fresh else x.relu()

        def pullback(gradient: Tensor, into: Tensors, wanted: bool) -> Tensor | None:
            return torch.ops.aten.threshold_backward(gradient, outputs, 0) if wanted else None

        return outputs, pullback


def identity(tensors: Tensors, statistics: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Pullback]:
    """x."""
    return x, lambda gradient, into, wanted: gradient


@dataclass(frozen=True)
class Reshaped:
    """The same numbers, seen or scaled otherwise: `there` and `back`, on [M, B, ...]."""

    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor, Tensor], Tensor]
    """(gradient in the outputs, the inputs)."""

    def __call__(
        self, tensors: Tensors, statistics: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, Pullback]:
        return self.there(x), lambda gradient, into, wanted: laid_out(self.back(gradient, x), x)


@dataclass(frozen=True)
class ByExample:
    """A function of each example alone, [N, ...] -> [N, ...], without parameters."""

    function: Callable[[Tensor], Tensor]

    def __call__(
        self, tensors: Tensors, statistics: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, Pullback]:
        inputs = x.detach().requires_grad_(torch.is_grad_enabled())
        outputs = self.function(inputs.flatten(0, 1)).unflatten(0, x.shape[:2])

        def pullback(gradient: Tensor, into: Tensors, wanted: bool) -> Tensor | None:
            if not wanted:
                return None
            return laid_out(torch.autograd.grad(outputs, inputs, gradient)[0], x)

        return outputs.detach(), pullback


@dataclass(frozen=True)
class Chain:
    """One layer after the other; nothing goes backwards past the first one with parameters."""

    layers: tuple[Layer, ...]
    trained: tuple[bool, ...]
    """For each layer, whether one before it has parameters."""

    @classmethod
    def of(cls, layers: Sequence[Layer], trains: Sequence[bool]) -> "Chain":
        """Of layers that have parameters or not."""
        return cls(tuple(layers), tuple(any(trains[:place]) for place in range(len(trains))))

    def __call__(
        self, tensors: Tensors, statistics: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, Pullback]:
        pullbacks: list[Pullback] = []
        for layer in self.layers:
            x, own = layer(tensors, statistics, x)
            pullbacks.append(own)

        def pullback(gradient: Tensor, into: Tensors, wanted: bool) -> Tensor | None:
            found: Tensor | None = gradient
            for own, trained in zip(reversed(pullbacks), reversed(self.trained), strict=True):
                if found is not None:
                    found = own(found, into, wanted or trained)
            return found

        return x, pullback


@dataclass(frozen=True)
class Sum:
    """factor (first(x) + sign second(x))."""

    first: Layer
    second: Layer
    sign: int = 1
    factor: float = 1.0

    def __call__(
        self, tensors: Tensors, statistics: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, Pullback]:
        (one, back), (other, back_other) = (
            layer(tensors, statistics, x) for layer in (self.first, self.second)
        )

        def pullback(gradient: Tensor, into: Tensors, wanted: bool) -> Tensor | None:
            gradient = gradient if self.factor == 1 else self.factor * gradient
            found = back(gradient, into, wanted)
            rest = back_other(gradient if self.sign == 1 else -gradient, into, wanted)
            return None if found is None or rest is None else found + rest

        outputs = torch.add(one, other, alpha=self.sign)
        return outputs if self.factor == 1 else self.factor * outputs, pullback


class Mapped:
    """Any module as a whole, by `vmap` over its call."""

    def __init__(self, module: nn.Module, path: str) -> None:
        own = [name for name, p in module.named_parameters() if p.requires_grad]
        self.names = {name: f"{path}{name}" for name in own}
        self.path = path

        def call(
            tensors: dict[str, Tensor], statistics: dict[str, Tensor], x: Tensor
        ) -> tuple[Tensor, dict[str, Tensor]]:
            # What the call puts in the place of a buffer stands in this dictionary afterwards.
            held = tensors | statistics
            # Copied: a module that works in place would write into a leaf of the graph.
            outputs = torch.func.functional_call(module, held, (x.clone(),))
            return outputs, {name: held[name] for name in statistics}

        self.call = torch.func.vmap(call)

    def __call__(
        self, tensors: Tensors, statistics: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, Pullback]:
        kept = torch.is_grad_enabled()
        # Under `vmap` a module must not ask for another layout, as GroupNorm does wherever strides,
        # those of axes of length 1 too, are not the usual ones; `contiguous` leaves these alone.
        inputs = x.detach().clone(memory_format=torch.contiguous_format)
        inputs.requires_grad_(kept and x.is_floating_point())
        leaves = {
            name: tensors[full].detach().requires_grad_(kept) for name, full in self.names.items()
        }
        path = self.path
        own = {n.removeprefix(path): s for n, s in statistics.items() if n.startswith(path)}
        outputs, new = self.call(leaves, own, inputs)
        statistics |= {f"{path}{name}": found.detach() for name, found in new.items()}

        def pullback(gradient: Tensor, into: Tensors, wanted: bool) -> Tensor | None:
            asked = [*leaves.values(), *([inputs] if wanted else [])]
            found = torch.autograd.grad(outputs, asked, gradient, materialize_grads=True)
            for full, own in zip(self.names.values(), found, strict=False):
                into[full].copy_(own)
            return laid_out(found[-1], x) if wanted else None

        whole = outputs.detach()
        return laid_out(whole, x) if whole.shape == x.shape else whole, pullback
