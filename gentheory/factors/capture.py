"""Per-layer inputs `a` and output-gradients `g` of each example, from one forward pass.

The gradient of example i in a layer's weight is Σ_t g_it a_itᵀ, t running over the positions at
which the weight is used: the one row of a linear layer, the pixels of a convolution, every call
of a shared layer. Parameters that no such layer explains (normalization, embedding, attention,
functional use) are handled by `torch.func`, with the same numbers; which ones those are is found
by comparing with autograd, not by trusting the layers' types.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from gentheory.examples import over_examples
from gentheory.risk import EmpiricalRisk


@dataclass(frozen=True)
class Factor:
    """One parameter's per-example gradients for K cotangents, as sums of outer products.

    The first axis holds the groups of a grouped convolution, 1 elsewhere.
    """

    inputs: Float[Tensor, "L B T D"]
    gradients: Float[Tensor, "L K B T C"]

    def dense(self) -> Float[Tensor, "K B P"]:
        """The gradients themselves, flat in the parameter's order."""
        products = torch.einsum("lkbto,lbtd->kblod", self.gradients, self.inputs)
        return products.flatten(2)


@dataclass(frozen=True)
class Capture:
    """All trainable parameters' per-example gradients for K cotangents of the outputs."""

    outputs: Float[Tensor, "B C"]
    factors: dict[str, Factor]
    rest: Float[Tensor, "K B P"]  # of the parameters without factors, flat; may have no column


Cotangents = Callable[[Float[Tensor, "B C"]], Float[Tensor, "K B C"]]
"""Outputs -> what is pulled back through the model."""


@dataclass(frozen=True)
class _Call:
    module: nn.Linear | nn.Conv2d
    inputs: Tensor
    outputs: Tensor


def capture(
    risk: EmpiricalRisk, inputs: Tensor, cotangents: Cotangents, *, explained: frozenset[str]
) -> Capture:
    """Factors for the parameters in `explained` (see `explain`), plain gradients for the others."""
    outputs, rows, factors = _factors(risk, inputs, cotangents, explained)
    rest = [name for name in risk.layout.names if name not in explained]
    return Capture(outputs, factors, _plain_gradients(risk, inputs, rows, rest))


def explain(risk: EmpiricalRisk, inputs: Tensor) -> frozenset[str]:
    """Names of the parameters whose captured gradients equal autograd's for the first examples."""
    inputs = inputs[:8]  # several: what one example does not reach, another one may

    def cotangents(outputs: Tensor) -> Tensor:
        count = torch.arange(1, outputs.numel() + 1, device=outputs.device)
        return count.to(outputs).sin().reshape(1, *outputs.shape)

    names = frozenset(risk.layout.names)
    _, rows, factors = _factors(risk, inputs, cotangents, names)
    plain = _plain_gradients(risk, inputs, rows, list(risk.layout.names))[0]
    tolerance = torch.finfo(risk.dtype).eps ** 0.5 * plain.abs().max()
    return frozenset(
        name
        for name, factor in factors.items()
        if len(factor.inputs[0]) == len(inputs)
        and (factor.dense()[0] - plain[:, risk.layout.slices[name]]).abs().max() <= tolerance
    )


def activations(risk: EmpiricalRisk, inputs: Tensor) -> int:
    """Numbers that the captured layers put out for one example."""
    with _recorded(risk.module) as calls, torch.no_grad():
        risk.outputs(risk.theta, inputs[:1])
    return sum(call.outputs.numel() for call in calls)


def _factors(
    risk: EmpiricalRisk, inputs: Tensor, cotangents: Cotangents, names: frozenset[str]
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "K B C"], dict[str, Factor]]:
    """Outputs, cotangents, and factors of the parameters in `names` that have any."""
    with _recorded(risk.module) as calls, torch.enable_grad():
        outputs = risk.outputs(risk.theta.clone().requires_grad_(), inputs)
    rows = cotangents(outputs.detach()).to(outputs)
    canonical = {id(p): name for name, p in risk.module.named_parameters()}
    pieces: dict[str, list[Factor]] = {}
    for call, gradient in _pulled(calls, outputs, rows):
        weight, bias = _pieces(call, gradient)
        for parameter, piece in ((call.module.weight, weight), (call.module.bias, bias)):
            name = canonical.get(id(parameter), "")
            if name in names and name in risk.layout.slices:
                pieces.setdefault(name, []).append(piece)
    joined = {name: _joined(parts) for name, parts in pieces.items() if _joinable(parts)}
    ordered = {name: joined[name] for name in risk.layout.names if name in joined}
    return outputs.detach(), rows, ordered


def _pulled(
    calls: list[_Call], outputs: Tensor, rows: Float[Tensor, "K B C"]
) -> Iterator[tuple[_Call, Tensor]]:
    """The gradients [K, B, ...] of each call's outputs, where the model's outputs depend on it."""
    calls = [call for call in calls if call.outputs.requires_grad]
    if not calls:
        return
    wanted = [call.outputs for call in calls]
    if len(rows) == 1:  # batching rules cost more than they give
        found = torch.autograd.grad(outputs, wanted, rows[0], allow_unused=True)
        gradients = [None if g is None else g[None] for g in found]  # pyright: ignore[reportUnnecessaryComparison]
    else:
        gradients = torch.autograd.grad(
            outputs, wanted, rows, is_grads_batched=True, allow_unused=True
        )
    for call, gradient in zip(calls, gradients, strict=True):
        # None where the outputs do not depend on the call, whatever the stubs say.
        if gradient is not None:  # pyright: ignore[reportUnnecessaryComparison]
            yield call, gradient


@contextmanager
def _recorded(module: nn.Module) -> Generator[list[_Call], None, None]:
    """Inputs and outputs of every call of a plain linear or convolutional layer."""
    calls: list[_Call] = []

    def hook(layer: nn.Linear | nn.Conv2d, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # What comes after may write into its input in place; it gets its own copy.
        calls.append(_Call(layer, args[0].detach(), output))
        return output.clone()

    layers = [part for part in module.modules() if _is_plain(part)]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _is_plain(part: nn.Module) -> bool:
    """A layer whose forward is known: a subclass may compute anything."""
    if type(part) is nn.Conv2d:
        return part.padding_mode == "zeros" and not isinstance(part.padding, str)
    return type(part) is nn.Linear


def _pieces(call: _Call, gradients: Tensor) -> tuple[Factor, Factor]:
    """Weight and bias, from inputs [B, ...] and gradients [K, B, ...] of the outputs."""
    if isinstance(call.module, nn.Linear):
        a = call.inputs.reshape(1, len(call.inputs), -1, call.inputs.shape[-1])
        g = gradients.reshape(1, *gradients.shape[:2], -1, gradients.shape[-1])
    else:
        a, g = _unfolded(call.module, call.inputs, gradients)
    ones = torch.ones_like(a[:1, :, :1, :1])
    if g.shape[0] == g.shape[3] == 1:  # the same tensor, so that products of it serve both
        return Factor(a, g), Factor(ones, g)
    summed = g.sum(3, keepdim=True).movedim(0, -2).flatten(-2)[None]
    return Factor(a, g), Factor(ones, summed)


def _unfolded(layer: nn.Conv2d, inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """A convolution as a linear layer on patches: a [L, B, T, D], g [L, K, B, T, C], L groups."""
    patches = F.unfold(
        inputs,
        layer.kernel_size,
        dilation=layer.dilation,  # pyright: ignore[reportArgumentType]
        padding=layer.padding,  # pyright: ignore[reportArgumentType]
        stride=layer.stride,  # pyright: ignore[reportArgumentType]
    )  # [B, channels · kernel, T]
    a = patches.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2)
    g = gradients.flatten(3).unflatten(2, (layer.groups, -1)).permute(2, 0, 1, 4, 3)
    return a, g


def _joinable(parts: list[Factor]) -> bool:
    return len({(*part.inputs.shape[:2], part.inputs.shape[-1]) for part in parts}) == 1


def _joined(parts: list[Factor]) -> Factor:
    """Several uses of one parameter are further positions of it."""
    if len(parts) == 1:
        return parts[0]
    inputs = torch.cat([part.inputs for part in parts], dim=2)
    return Factor(inputs, torch.cat([part.gradients for part in parts], dim=3))


def _plain_gradients(
    risk: EmpiricalRisk, inputs: Tensor, cotangents: Float[Tensor, "K B C"], names: list[str]
) -> Float[Tensor, "K B P"]:
    if not names:
        return cotangents.new_zeros(*cotangents.shape[:2], 0)
    tensors = risk.layout.unflatten(risk.theta)
    chosen = {name: tensors[name] for name in names}

    def one(example: Tensor, rows: Float[Tensor, "K C"]) -> Float[Tensor, "K P"]:
        def forward(parts: dict[str, Tensor]) -> Tensor:
            return risk.outputs(risk.layout.flatten({**tensors, **parts}), example[None])[0]

        pull = torch.func.vjp(forward, chosen)[1]
        pulled = torch.func.vmap(pull)(rows)[0]
        return torch.cat([pulled[name].reshape(len(rows), -1) for name in names], dim=1)

    return over_examples(one, inputs, cotangents.transpose(0, 1)).transpose(0, 1)
