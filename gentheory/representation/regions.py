"""What a net's ReLUs do on the data: which units are on, and whose kink lies near an example.

Every ReLU that runs is seen, as a module, as a function or in place, in the order of the calls.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gentheory.errors import InputError
from gentheory.risk import EmpiricalRisk

_ATEN = torch.ops.aten
_RELUS = {_ATEN.relu, _ATEN.relu_}
_KINKED = {*_RELUS, _ATEN.leaky_relu, _ATEN.leaky_relu_, _ATEN._prelu_kernel}
"""Piecewise linear with one kink, at 0."""
_CURVED = {
    *(_ATEN.gelu, _ATEN.silu, _ATEN.silu_, _ATEN.elu, _ATEN.elu_, _ATEN.mish, _ATEN.softplus),
    *(_ATEN.tanh, _ATEN.tanh_, _ATEN.sigmoid, _ATEN.sigmoid_),
    *(_ATEN.native_layer_norm, _ATEN.native_group_norm),
}
_CURVED_WORDS = ("attention", "softmax")
"""In the names of the kernels of attention, of which there are many."""

_NUMBERS = 2**20
"""In the inputs of what is run at once."""

Reduction = Callable[[Float[Tensor, "B _"]], Tensor]
"""What is kept of the pre-activations of some examples, flattened."""


class _Watch(TorchDispatchMode):
    """Reduces what goes into the activations, and names those that are no piecewise linear ones."""

    def __init__(self, kinds: set[Any], examples: int, reduce: Reduction) -> None:
        super().__init__()
        self.kinds, self.examples, self.reduce = kinds, examples, reduce
        self.seen: list[Tensor] = []
        self.curved: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kind = func.overloadpacket
        if kind in self.kinds:
            if args[0].shape[0] % self.examples:
                raise _misplaced(tuple(args[0].shape))
            self.seen.append(self.reduce(args[0].reshape(self.examples, -1)))
        elif kind in _CURVED or any(word in kind.__name__ for word in _CURVED_WORDS):
            self.curved.add(kind.__name__.strip("_"))
        return func(*args, **(kwargs or {}))


def curved(risk: EmpiricalRisk) -> tuple[tuple[str, ...], int]:
    """The operations of the net that are not piecewise linear, and how many activations have kinks.

    Raises `InputError` where an activation does not have the examples on its first axis.
    """
    return risk.once("kinks", lambda: _looked_at(risk))


def shares_on(risk: EmpiricalRisk) -> Float[Tensor, "L N"]:
    """Share of each ReLU's outputs that are not zero, for each example; in float64.

    One forward pass. L is 0 for a net without a ReLU. Raises `InputError` as `curved` does.
    """
    curved(risk)
    parts: list[Tensor] = []
    for inputs, _ in risk.batches():
        found = _watched(risk, inputs, _RELUS, lambda h: (h > 0).double().mean(1)).seen
        parts.append(torch.stack(found) if found else inputs.new_zeros(0, len(inputs)).double())
    return torch.cat(parts, dim=1)


def crossings(
    risk: EmpiricalRisk, frames: Float[Tensor, "K D n"], radius: float
) -> Float[Tensor, "L K N"]:
    """Units of each layer whose kink passes between the vertices x ± radius v around an example.

    For each of K frames of n directions v over the D inputs of an example, the same around all.
    A unit counts if its pre-activation is negative at a vertex and positive at another: zero lies
    on both sides of the kink. 2 K n N forward passes of one example.
    """
    curved(risk)
    rows = [[_around(risk, frame, radius, x) for x, _ in risk.batches()] for frame in frames]
    return torch.stack([torch.cat(parts, dim=1) for parts in rows], dim=1)


def crossed_stderr(table: Float[Tensor, "K N"]) -> float:
    """Standard error of the mean of a table over the draw of its rows and that of its columns.

    Var = σ_rows²/K + σ_columns²/N + σ_rest²/(K N), each without bias; nan for one row or column.
    """
    if min(table.shape) < 2:
        return math.nan
    rows, columns = table.mean(1), table.mean(0)
    rest = table - rows[:, None] - columns + table.mean()
    noise = rest.square().sum() / ((len(rows) - 1) * (len(columns) - 1) * table.numel())
    square = rows.var() / len(rows) + columns.var() / len(columns) - noise
    return float(torch.maximum(square, noise).sqrt())  # the difference may even be negative


def frames(
    count: int, inputs: int, directions: int, generator: Generator
) -> Float[Tensor, "K D n"]:
    """K frames of n random orthonormal directions, each uniform over all of them but for signs."""
    drawn = torch.randn(
        count,
        inputs,
        directions,
        generator=generator,
        device=generator.device,
        dtype=torch.float64,
    )
    return torch.linalg.qr(drawn)[0]


def _around(
    risk: EmpiricalRisk, frame: Float[Tensor, "D n"], radius: float, inputs: Tensor
) -> Float[Tensor, "L B"]:
    steps = radius * torch.cat([frame, -frame], dim=1).T.to(inputs)
    steps = steps.view(len(steps), 1, *inputs.shape[1:])
    size = max(1, _NUMBERS // (len(steps) * inputs[0].numel()))
    parts: list[Tensor] = []
    for x in inputs.split(size):
        vertices = (x + steps).flatten(0, 1)

        def crossed(h: Tensor, count: int = len(x)) -> Tensor:
            low, high = h.view(len(steps), count, -1).aminmax(dim=0)
            return ((low < 0) & (high > 0)).double().sum(1)

        found = _watched(risk, vertices, _KINKED, crossed).seen
        parts.append(torch.stack(found) if found else x.new_zeros(0, len(x)).double())
    return torch.cat(parts, dim=1)


def _looked_at(risk: EmpiricalRisk) -> tuple[tuple[str, ...], int]:
    """Compares the first example alone with itself in its batch."""
    inputs = next(risk.batches())[0]
    together = _watched(risk, inputs, _KINKED, lambda h: h[:1].clone())
    alone = _watched(risk, inputs[:1], _KINKED, lambda h: h.clone())
    for one, other in zip(together.seen, alone.seen, strict=True):
        tolerance = torch.finfo(risk.dtype).eps ** 0.5 * other.abs().max()
        if one.shape != other.shape or bool((one - other).abs().max() > tolerance):
            raise _misplaced(tuple(one.shape))
    return tuple(sorted(together.curved)), len(together.seen)


def _watched(risk: EmpiricalRisk, inputs: Tensor, kinds: set[Any], reduce: Reduction) -> _Watch:
    watch = _Watch(kinds, len(inputs), reduce)
    with torch.no_grad(), watch:
        risk.outputs(risk.theta, inputs)
    return watch


def _misplaced(shape: tuple[int, ...]) -> InputError:
    return InputError(
        "activations",
        f"values of shape {shape} that are not one row an example",
        "the examples on the first axis of every activation",
        "write the net so that the batch comes first",
    )
