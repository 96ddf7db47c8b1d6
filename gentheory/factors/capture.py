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
from torch.autograd.graph import GradientEdge, get_gradient_edge
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

    def same_gradients(self) -> list[list[str]]:
        """Names of parameters whose factors hold the very same output-gradients."""
        groups: dict[tuple[int, torch.Size], list[str]] = {}
        for name, factor in self.factors.items():
            key = (factor.gradients.data_ptr(), factor.gradients.shape)
            groups.setdefault(key, []).append(name)
        return list(groups.values())

    def combined(self, rows: Float[Tensor, "j B K"]) -> "Capture":
        """For sums of the cotangents, each example's with weights of its own."""
        factors: dict[str, Factor] = {}
        for names in self.same_gradients():
            own = self.factors[names[0]].gradients
            gradients = torch.einsum("jbk,lkbto->ljbto", rows.to(own), own)
            factors |= {name: Factor(self.factors[name].inputs, gradients) for name in names}
        rest = torch.einsum("jbk,kbp->jbp", rows.to(self.rest), self.rest)
        return Capture(self.outputs, {name: factors[name] for name in self.factors}, rest)

    @property
    def numbers(self) -> int:
        """Numbers held; what two parameters share counts once."""
        parts = [t for f in self.factors.values() for t in (f.inputs, f.gradients)]
        return sum({t.data_ptr(): t.numel() for t in [self.rest, *parts]}.values())


Cotangents = Callable[[Float[Tensor, "B C"]], Float[Tensor, "K B C"]]
"""Outputs -> what is pulled back through the model."""


@dataclass(frozen=True)
class _Call:
    module: nn.Linear | nn.Conv2d
    inputs: Tensor
    outputs: GradientEdge | None  # None where no gradient arrives
    numbers: int  # that it puts out


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
    return sum(call.numbers for call in calls)


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
    pairs = [(call, call.outputs) for call in calls if call.outputs is not None]
    if not pairs:
        return
    edges = [edge for _, edge in pairs]
    if any(isinstance(call.module, nn.Conv2d) for call, _ in pairs) or len(rows) == 1:
        gradients = _one_by_one(outputs, edges, rows)
    else:
        gradients = torch.autograd.grad(
            outputs, edges, rows, is_grads_batched=True, allow_unused=True
        )
    for (call, _), gradient in zip(pairs, gradients, strict=True):
        # None where the outputs do not depend on the call, whatever the stubs say.
        if gradient is not None:  # pyright: ignore[reportUnnecessaryComparison]
            yield call, gradient


def _one_by_one(
    outputs: Tensor, edges: list[GradientEdge], rows: Float[Tensor, "K B C"]
) -> list[Tensor | None]:
    """Batched backward passes of convolutions and poolings are loops, slower than this one."""
    passes = [torch.autograd.grad(outputs, edges, row, True, allow_unused=True) for row in rows]
    return [
        None if found[0] is None else found[0][None] if len(rows) == 1 else torch.stack(found)  # pyright: ignore[reportUnnecessaryComparison]
        for found in zip(*passes, strict=True)
    ]


@contextmanager
def _recorded(module: nn.Module) -> Generator[list[_Call], None, None]:
    """Inputs and outputs of every call of a plain linear or convolutional layer."""
    calls: list[_Call] = []

    def hook(layer: nn.Linear | nn.Conv2d, args: tuple[Tensor, ...], output: Tensor) -> None:
        # The edge is that of this output even if what comes after writes into it in place.
        edge = get_gradient_edge(output) if output.requires_grad else None
        calls.append(_Call(layer, args[0].detach(), edge, output.numel()))

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
    patches = _patches(layer, inputs).flatten(4).flatten(1, 3)  # [B, channels · kernel, T]
    a = patches.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2)
    g = gradients.flatten(3).unflatten(2, (layer.groups, -1)).permute(2, 0, 1, 4, 3)
    return a, g


def _patches(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """A view [B, channels, kernel, kernel, height, width]: to copy it beats `F.unfold`."""
    assert not isinstance(layer.padding, str)  # see `_is_plain`
    windows = F.pad(inputs, [side for side in reversed(layer.padding) for _ in range(2)])
    for axis in (0, 1):
        reach = (layer.kernel_size[axis] - 1) * layer.dilation[axis] + 1
        windows = windows.unfold(2 + axis, reach, layer.stride[axis])
    rows, columns = layer.dilation
    return windows[..., ::rows, ::columns].permute(0, 1, 4, 5, 2, 3)


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
