"""A model as one flat vector: `theta` [P], or `[M, P]` for a stack of M models."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentheory.errors import InputError


@dataclass(frozen=True)
class Layout:
    """Where each tensor of a module lies in its flat vector, in the module's own order."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, module: nn.Module) -> "Layout":
        """The trainable parameters; a tied one counts once, frozen ones are not part of theta."""
        named = trainable(module)
        return cls(tuple(named), tuple(tuple(tensor.shape) for tensor in named.values()))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Numbers in each tensor."""
        return tuple(prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """P."""
        return sum(self.sizes)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where in theta each name lies."""
        ends = list(accumulate(self.sizes))
        starts = [0, *ends[:-1]]
        return {n: slice(a, b) for n, a, b in zip(self.names, starts, ends, strict=True)}

    @cached_property
    def layers(self) -> dict[str, slice]:
        """Where in theta the parameters of each module lie that owns any; "." is the net itself."""
        named = groupby(self.names, key=lambda name: name.rpartition(".")[0] or ".")
        owned = {layer: [self.slices[name] for name in names] for layer, names in named}
        return {layer: slice(s[0].start, s[-1].stop) for layer, s in owned.items()}

    def unflatten(self, theta: Float[Tensor, "*batch P"]) -> dict[str, Tensor]:
        """Views of theta by name, each with theta's leading axes before its own shape."""
        if theta.shape[-1] != self.size:
            raise InputError(
                "theta", f"{theta.shape[-1]} numbers", f"{self.size}", "use this module's vector"
            )
        parts = theta.split(self.sizes, dim=-1)
        return {
            name: part.reshape((*theta.shape[:-1], *shape))
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def flatten(self, tensors: Mapping[str, Tensor]) -> Float[Tensor, "*batch P"]:
        """The inverse of `unflatten`: one vector, or a stack where the tensors have more axes."""
        parts = [
            tensors[name].reshape(*tensors[name].shape[: tensors[name].dim() - len(shape)], -1)
            for name, shape in zip(self.names, self.shapes, strict=True)
        ]
        return torch.cat(parts, dim=-1)


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters with `requires_grad`, by name, aliases once.

    Raises `InputError` where there is none, or where two Parameters share memory without being
    the same object: they would be counted twice while an optimizer moves both at once.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not named:
        raise InputError(
            type(module).__name__, "no trainable parameter", "at least one", "unfreeze some"
        )
    owners: dict[int, str] = {}
    for name, parameter in named.items():
        if not parameter.data_ptr():  # empty, or on the meta device: there is no memory to share
            continue
        other = owners.setdefault(parameter.data_ptr(), name)
        if other != name:
            raise InputError(
                f"parameters {other!r} and {name!r}",
                "two Parameters on the same memory",
                "one Parameter under both names",
                f"tie them by assignment of the Parameter, {name} = {other}",
            )
    return named


def flatten(module: nn.Module) -> Float[Tensor, " P"]:
    """The module's trainable parameters as one new vector."""
    return Layout.of(module).flatten(trainable(module)).detach().clone()


def load_flat(module: nn.Module, theta: Float[Tensor, " P"]) -> None:
    """Copy the vector into the module's trainable parameters."""
    parts = Layout.of(module).unflatten(theta)
    with torch.no_grad():
        for name, parameter in trainable(module).items():
            parameter.copy_(parts[name])
