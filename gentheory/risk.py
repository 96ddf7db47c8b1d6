"""The empirical risk: the one object that knows model, loss and data.

    L(theta) = (1/N) sum_i loss_i(theta) + weight_decay / 2 |theta|²

Means are over counted examples, never means of batch means, and sums over batches are kept in
float64. The model is a private copy in eval mode: dropout is off, BatchNorm uses its running
statistics, attention runs without fused kernels; the module and the data handed in stay as they
were.
"""

import copy
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gentheory import losses
from gentheory.data.batches import Batch, Batches, ChosenBatches, batches
from gentheory.data.fields import Fields
from gentheory.errors import InputError
from gentheory.params import Layout, flatten

Result = TypeVar("Result")


class EmpiricalRisk:
    """Mean loss of a module on data, as a function of its flat parameter vector.

    **Arguments:**

    - `module`: any `nn.Module` from inputs to outputs [B, C]. Parameters with `requires_grad`
      make up theta, tied ones once; frozen ones stay at their value.
    - `loss`: "cross_entropy", "mse", or a callable (outputs [B, C], targets) -> [B].
    - `data`: tensors (x, y), a `Dataset`, a `DataLoader` or an iterable of batches (x, y). The
      order is frozen; at first use of other than tensors two passes are compared. A batch may
      also be a mapping of named tensors: "labels" are the targets, the rest is handed to the
      module by name; of what it returns `logits` count, if there are any.
    - `weight_decay`: coefficient of |theta|²/2, part of the risk and of every gradient.
    - `theta`: parameters [P] to use in place of the module's own.
    - `dtype`: convert model and inputs, for example to `torch.float64`.
    - `batch_size`: examples at once where gentheory cuts the batches.

    Raises `InputError` for data that cannot be read twice; at first use, or by `check`, for data
    that differ between two passes, inputs that are not finite and targets that the loss cannot
    take, with the index of the first such example; for a model that is random, or whose outputs
    for one example depend on the others in its batch; and for a loss that does not give one value
    an example.
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
        self.layout = Layout.of(module)
        self.module = copy.deepcopy(module).eval().to(dtype=dtype)
        self.loss = losses.resolve(loss)
        self.weight_decay = weight_decay
        own = flatten(self.module)
        self.theta: Tensor = own if theta is None else theta.detach().to(own, copy=True)
        self.layout.unflatten(self.theta)
        self._batch_size = batch_size
        self._batches: Batches = batches(data, batch_size=batch_size)
        self._results: dict[Hashable, Any] = {}
        self._results_of = (self.theta, self.theta._version)

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

    @cached_property
    def num_outputs(self) -> int:
        """C, by one look at the first example."""
        with torch.no_grad():
            return self.outputs(self.theta, next(self.batches())[0][:1]).shape[1]

    def once(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """The result of `compute` for these parameters and data, kept for the next who asks.

        Results of other parameters are forgotten, those before a change in place too.
        """
        known = self._current()
        if key not in known:
            known[key] = compute()
        return known[key]

    def known(self, key: Hashable) -> Any:
        """What `once` has kept under this key for these parameters and data, or None."""
        return self._current().get(key)

    def _current(self) -> dict[Hashable, Any]:
        of = (self.theta, self.theta._version)
        if self._results_of[0] is not of[0] or self._results_of[1] != of[1]:
            self._results, self._results_of = {}, of
        return self._results

    def check(self) -> None:
        """Raise `InputError` where model or data cannot be used; the first use does it too."""
        _ = self._checked

    def batches(self) -> Iterator[Batch]:
        """Batches (inputs, targets) in the frozen order, on the risk's device."""
        _ = self._checked
        for inputs, targets in self._batches:
            yield self._moved(inputs), self._moved(targets)

    def restricted(self, chosen: Callable[[Tensor], Tensor]) -> "EmpiricalRisk":
        """This risk on the examples whose targets `chosen` marks: a mean over those alone.

        Shares model and data with this one. `chosen` maps targets [B, ...] to truth values [B].
        """
        part = self._without_data()
        part._batches = ChosenBatches(self._batches, chosen, self._batch_size)
        return part

    def on(self, inputs: Tensor, targets: Tensor) -> "EmpiricalRisk":
        """This risk on examples like its own, held in memory. Shares the model with this one."""
        part = self._without_data()
        part._batches = batches((inputs, targets), batch_size=self._batch_size)
        part._fields = self._fields  # named inputs come packed, as the batches have them
        return part

    def at(
        self, theta: Float[Tensor, " P"], *, weight_decay: float | None = None
    ) -> "EmpiricalRisk":
        """This risk with other parameters as its own, and another weight decay if it is given.

        Shares model and data, and what has been found out about them, with this one.
        """
        other = copy.copy(self)
        other.theta = theta.detach().to(self.theta, copy=True)
        other.weight_decay = self.weight_decay if weight_decay is None else weight_decay
        other._results = {}
        return other

    def shares_all_but_theta(self, other: "EmpiricalRisk") -> bool:
        """Whether `at` made one of the other: model, loss and data are the same objects."""
        pairs = ((self.module, other.module), (self.loss, other.loss))
        return all(a is b for a, b in (*pairs, (self._batches, other._batches)))

    def joined(self) -> Batch:
        """All examples as one batch, in the frozen order; a copy.

        Raises `InputError` where the inputs of batches differ in shape.
        """
        inputs, targets = zip(*self.batches(), strict=True)
        shapes = {tuple(each.shape[1:]) for each in inputs}
        if len(shapes) > 1:
            raise InputError(
                "data",
                f"batches with inputs of shapes {' and '.join(map(str, sorted(shapes)))}",
                "one shape, where examples of several batches are used together",
                "pad all examples to one size",
            )
        return torch.cat(inputs), torch.cat(targets)

    def _without_data(self) -> "EmpiricalRisk":
        """A copy that shares the model, and knows no result nor number of examples."""
        part = copy.copy(self)
        part._results = {}
        part.__dict__.pop("num_examples", None)
        return part

    def of_module(self, module: nn.Module) -> "EmpiricalRisk":
        """The risk on these data of a module that computes the same outputs in another form."""
        other = copy.copy(self)
        other.module = copy.deepcopy(module).eval()
        other.layout = Layout.of(other.module)
        other.theta = flatten(other.module)
        other._results = {}
        return other

    def outputs(self, theta: Float[Tensor, " P"], inputs: Tensor) -> Float[Tensor, "B C"]:
        """The model's outputs with these parameters; differentiable and safe under vmap."""
        tensors = self.layout.unflatten(theta)
        copied = inputs.clone()  # a first layer that works in place would write into the data
        named = {} if self._fields is None else self._fields.unpack(copied)
        given = () if named else (copied,)
        with _differentiable_attention():
            outputs = torch.func.functional_call(
                self.module, tensors, given, named, tie_weights=True
            )
        # Models of the transformers library return them under this name.
        outputs = getattr(outputs, "logits", outputs)
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
        """Gradient of L, in theta's dtype; computed once for the risk's own parameters."""
        if theta is None:
            return self.once("gradient", lambda: self.gradient(self.theta)).clone()
        total = torch.zeros_like(theta, dtype=torch.float64)
        for batch in self.batches():
            total += torch.func.grad(self.loss_sum)(theta, batch)
        return (total / self.num_examples).to(theta.dtype) + self.weight_decay * theta

    @cached_property
    def _fields(self) -> Fields | None:
        return self._batches.fields

    def _moved(self, tensor: Tensor) -> Tensor:
        floating = tensor.is_floating_point()
        return tensor.to(self.device, dtype=self.dtype if floating else None)

    @cached_property
    def _checked(self) -> bool:
        """Two looks at model and data agree, and every example can be used."""
        if not self._batches.in_memory:
            self._compare_passes()
        inputs, targets = map(self._moved, next(iter(self._batches)))
        with torch.no_grad():
            outputs = self.outputs(self.theta, inputs)
            self._check_outputs(inputs, outputs.nan_to_num())
            self._check_examples(outputs.shape[1])
            self._check_loss(self.loss.among(outputs, targets), len(inputs))
        return True

    def _check_outputs(self, inputs: Tensor, outputs: Float[Tensor, "B C"]) -> None:
        place = f"outputs of {type(self.module).__name__}"
        if not torch.equal(outputs, self.outputs(self.theta, inputs).nan_to_num()):
            raise InputError(
                place,
                "other values for the same inputs in eval mode",
                "a deterministic model",
                "remove the randomness, or fix it by a generator reset at each call",
            )
        count = (len(inputs) + 1) // 2
        half, alone = outputs[:count], self.outputs(self.theta, inputs[:count]).nan_to_num()
        # Kernels may round differently for another batch size; dependence is far larger.
        tolerance = torch.finfo(self.dtype).eps ** 0.5 * outputs.abs().max()
        if alone.shape != half.shape or bool((alone - half).abs().max() > tolerance):
            raise InputError(
                place,
                f"{len(outputs)} rows for {len(inputs)} examples, not the same for half of them",
                "one row an example, whatever else is in the batch",
                "give normalization layers running statistics",
            )

    def _check_loss(self, values: Any, count: int) -> None:
        shape = tuple(values.shape) if torch.is_tensor(values) else type(values).__name__
        if shape != (count,):
            raise InputError(
                f"loss {self.loss.name!r}",
                f"{shape} for {count} examples",
                "one value an example",
                'do not reduce: torch losses take reduction="none"',
            )

    def _check_examples(self, num_outputs: int) -> None:
        start = 0
        for inputs, targets in self._batches:
            # A finite sum proves finite terms, at a hundredth of the cost of looking at each one.
            if inputs.is_floating_point() and not inputs.sum().isfinite():
                finite = inputs.isfinite().reshape(len(inputs), -1).all(1)
                if not finite.all():
                    raise InputError(
                        f"data, example {start + int(finite.int().argmin())}",
                        "an input that is nan or infinite",
                        "finite numbers",
                        "mend the example or drop it",
                    )
            self.loss.check(targets, num_outputs, start=start)
            start += len(inputs)

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


@contextmanager
def _differentiable_attention() -> Generator[None, None, None]:
    """Plain matrix products: the fused kernels lack forward-mode and second derivatives."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _digest(inputs: Tensor, targets: Tensor) -> tuple[int, float, float]:
    """A fingerprint that sees the order within a batch."""
    return len(inputs), _weighted_sum(inputs), _weighted_sum(targets)


def _weighted_sum(tensor: Tensor) -> float:
    """With weights that hardly repeat; nan counts as 0, for two nan are not equal."""
    values = tensor.detach().flatten().double().nan_to_num()
    places = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)
    return float(values @ torch.frac(places * 0.6180339887498949))
