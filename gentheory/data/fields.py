"""Named inputs, as models of the transformers library take them, in one tensor a batch.

Everything above then sees what it sees elsewhere: a tensor [B, D] whose rows are examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from gentheory.errors import InputError

TARGETS = ("labels", "label", "targets", "target")
"""Names under which a batch may hold its targets."""
_EXACT = 2**24
"""Up to here float32 holds every whole number."""


@dataclass(frozen=True)
class Fields:
    """Where each named input of an example lies in its row."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor]) -> "Fields":
        """Of the named inputs [B, ...] of one batch; each later batch must have the same."""
        shapes = tuple(tuple(tensor.shape[1:]) for tensor in inputs.values())
        return cls(tuple(inputs), shapes, tuple(tensor.dtype for tensor in inputs.values()))

    def pack(self, inputs: Mapping[str, Tensor]) -> Shaped[Tensor, "B D"]:
        """Whole numbers stay whole unless floating inputs lie beside them."""
        found = Fields.of(inputs)
        if found != self:
            raise InputError(
                "data",
                f"a batch of {found._told()}",
                f"{self._told()}, as in the first batch",
                "pad every example to one length",
            )
        floating = [dtype for dtype in self.dtypes if dtype.is_floating_point]
        whole = {name: tensor for name, tensor in inputs.items() if not tensor.is_floating_point()}
        for name, tensor in whole.items():
            if floating and bool((tensor.long().abs() > _EXACT).any()):
                raise InputError(
                    f"data, input {name!r}",
                    f"a whole number above {_EXACT} beside floating inputs",
                    "one that float32 holds exactly",
                    "wrap the module so that it takes one tensor",
                )
        dtype = floating[0] if floating else torch.int64
        return torch.cat(
            [tensor.reshape(len(tensor), -1).to(dtype) for tensor in inputs.values()], dim=1
        )

    def unpack(self, rows: Shaped[Tensor, "B D"]) -> dict[str, Tensor]:
        """The inverse of `pack`; floating inputs in the dtype of the rows."""
        parts = rows.split([prod(shape) for shape in self.shapes], dim=1)
        return {
            name: part.reshape(-1, *shape).to(None if dtype.is_floating_point else dtype)
            for name, part, shape, dtype in zip(
                self.names, parts, self.shapes, self.dtypes, strict=True
            )
        }

    def _told(self) -> str:
        told = zip(self.names, self.shapes, strict=True)
        return ", ".join(f"{name} {list(shape)}" for name, shape in told)


def separated(batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
    """The named inputs of a batch and its targets. Raises `InputError` where it has none."""
    targets = next((name for name in TARGETS if name in batch), None)
    if targets is None:
        raise InputError(
            "data",
            f"a batch of {', '.join(map(repr, batch)) or 'nothing'}",
            f"targets among them, as {TARGETS[0]!r}",
            "add them to the batch, or hand in pairs (inputs, targets)",
        )
    inputs = {name: value for name, value in batch.items() if name != targets}
    return tensors(inputs), torch.as_tensor(batch[targets])


def tensors(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The named inputs as tensors."""
    return {name: torch.as_tensor(value) for name, value in inputs.items()}
