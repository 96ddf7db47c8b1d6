"""The empirical risk: the one object that knows model, loss and data.

    L(theta) = (1/N) sum_i loss_i(theta) + weight_decay / 2 |theta|²

Means are over counted examples, never means of batch means, and sums over batches are kept in
float64. The model is a private copy in eval mode: dropout is off, BatchNorm uses its running
statistics, in-place activations are replaced, and the module handed in stays as it was.
"""

import copy
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentheory import losses
from gentheory.data.batches import Batch, Batches, batches
from gentheory.errors import InputError
from gentheory.params import Layout, flatten


class EmpiricalRisk:
    """Mean loss of a module on data, as a function of its flat parameter vector.

    **Arguments:**

    - `module`: any `nn.Module` from inputs to outputs [B, C]. Parameters with `requires_grad`
      make up theta, tied ones once; frozen ones stay at their value.
    - `loss`: "cross_entropy", "mse", or a callable (outputs [B, C], targets) -> [B].
    - `data`: tensors (x, y), a `Dataset`, a `DataLoader` or an iterable of batches (x, y). The
      order is frozen; at first use of other than tensors two passes are compared.
    - `weight_decay`: coefficient of |theta|²/2, part of the risk and of every gradient.
    - `theta`: parameters [P] to use in place of the module's own.
    - `dtype`: convert model and inputs, for example to `torch.float64`.
    - `batch_size`: examples at once where gentheory cuts the batches.

    Raises `InputError` for data that cannot be read twice, or that differs between two passes.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: str | losses.PerExample | losses.Loss,
        data: Any,
        *,
        weight_decay: float = 0.0,
        theta: Float[Tensor, " P"] | None = None,
        dtype: torch.dtype | None = None,
        batch_size: int = 512,
    ) -> None:
        if not weight_decay >= 0:
            raise InputError("weight_decay", str(weight_decay), "0 or more", "give such a number")
        self.module = _private_copy(module).to(dtype=dtype)
        self.loss = losses.resolve(loss)
        self.weight_decay = weight_decay
        self.layout = Layout.of(self.module)
        own = flatten(self.module)
        self.theta: Tensor = own if theta is None else theta.detach().to(own)
        self.layout.unflatten(self.theta)
        self._batches: Batches = batches(data, batch_size=batch_size)

    @property
    def num_params(self) -> int:
        """P."""
        return self.layout.size

    @property
    def dtype(self) -> torch.dtype:
        """Of theta."""
        return self.theta.dtype

    @property
    def device(self) -> torch.device:
        """Of theta; batches are moved there."""
        return self.theta.device

    @cached_property
    def num_examples(self) -> int:
        """N, counted."""
        return sum(len(inputs) for inputs, _ in self.batches())

    def batches(self) -> Iterator[Batch]:
        """Batches (inputs, targets) in the frozen order, on the risk's device."""
        _ = self._checked
        for inputs, targets in self._batches:
            yield self._moved(inputs), self._moved(targets)

    def outputs(self, theta: Float[Tensor, " P"], inputs: Tensor) -> Float[Tensor, "B C"]:
        """The model's outputs with these parameters; differentiable and safe under vmap."""
        tensors = self.layout.unflatten(theta)
        outputs = torch.func.functional_call(self.module, tensors, (inputs,), tie_weights=True)
        if not torch.is_tensor(outputs) or outputs.dim() != 2:
            raise InputError(
                f"outputs of {type(self.module).__name__}",
                str(tuple(outputs.shape)) if torch.is_tensor(outputs) else type(outputs).__name__,
                "a tensor [B, C]",
                "wrap the module so that it returns one row of outputs per example",
            )
        return outputs

    def loss_sum(self, theta: Float[Tensor, " P"], batch: Batch) -> Float[Tensor, ""]:
        """Sum of the examples' losses, without weight decay."""
        return self.loss.values(self.outputs(theta, batch[0]), batch[1]).sum()

    def example_losses(self, theta: Float[Tensor, " P"] | None = None) -> Float[Tensor, " N"]:
        """Each example's loss, without weight decay."""
        theta = self.theta if theta is None else theta
        with torch.no_grad():
            parts = [self.loss.values(self.outputs(theta, x), y) for x, y in self.batches()]
        return torch.cat(parts)

    def value(self, theta: Float[Tensor, " P"] | None = None) -> Float[Tensor, ""]:
        """L(theta), in float64."""
        theta = self.theta if theta is None else theta
        penalty = self.weight_decay / 2 * theta.double().square().sum()
        return self.example_losses(theta).double().mean() + penalty

    def gradient(self, theta: Float[Tensor, " P"] | None = None) -> Float[Tensor, " P"]:
        """Gradient of L, in theta's dtype."""
        theta = self.theta if theta is None else theta
        total = torch.zeros_like(theta, dtype=torch.float64)
        for batch in self.batches():
            total += torch.func.grad(self.loss_sum)(theta, batch)
        return (total / self.num_examples).to(theta.dtype) + self.weight_decay * theta

    def _moved(self, tensor: Tensor) -> Tensor:
        floating = tensor.is_floating_point()
        return tensor.to(self.device, dtype=self.dtype if floating else None)

    @cached_property
    def _checked(self) -> bool:
        """Two looks at model and data agree; raises `InputError` otherwise."""
        if not self._batches.in_memory:
            self._compare_passes()
        inputs = self._moved(next(iter(self._batches))[0])
        with torch.no_grad():
            first, second = (self.outputs(self.theta, inputs) for _ in range(2))
        if not torch.equal(first.nan_to_num(), second.nan_to_num()):
            raise InputError(
                type(self.module).__name__,
                "different outputs for the same inputs in eval mode",
                "a deterministic model",
                "remove the randomness, or fix it by a generator reset at each call",
            )
        return True

    def _compare_passes(self) -> None:
        passes = [[_digest(x, y) for x, y in self._batches] for _ in range(2)]
        if not passes[0]:
            raise InputError("data", "no batch", "at least one", "check the iterable")
        for index, (one, two) in enumerate(zip(*passes, strict=False)):
            if one != two:
                raise InputError(
                    f"data, batch {index}",
                    "other values on the second pass than on the first",
                    "the same examples in the same order at every pass",
                    "switch off shuffling and augmentation",
                )
        if len(passes[0]) != len(passes[1]):
            raise InputError(
                "data",
                f"{len(passes[0])} batches, then {len(passes[1])}",
                "as many at every pass",
                "hand in a list of batches instead",
            )


def _private_copy(module: nn.Module) -> nn.Module:
    """The module in eval mode, without in-place activations, sharing nothing with the original."""
    module = copy.deepcopy(module).eval()
    for part in module.modules():
        # An in-place activation overwrites what forward-mode differentiation and vmap still need.
        if getattr(part, "inplace", False):
            part.inplace = False  # pyright: ignore[reportAttributeAccessIssue]
    return module


def _digest(inputs: Tensor, targets: Tensor) -> tuple[int, float, float]:
    """A fingerprint that sees the order within a batch; weights are fixed irrational steps."""
    values = inputs.detach().double().flatten()
    weights = torch.frac(torch.arange(1, len(values) + 1, device=values.device) * 0.6180339887)
    labels = targets.detach().double().flatten()
    return len(inputs), float(values @ weights.double()), float(labels @ labels.cumsum(0))
