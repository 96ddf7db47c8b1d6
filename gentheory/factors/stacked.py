"""Captures of a stack of models in one pass, kept with each of them as if it had made its own.

A measure does not know of stacks: it asks a risk for what it needs, and finds it there.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.data.batches import Batch
from gentheory.factors.capture import Capture, Factor
from gentheory.factors.layered import Layer, layers_of
from gentheory.factors.passes import kept_captures
from gentheory.factors.shifts import shifted
from gentheory.params import Layout
from gentheory.risk import EmpiricalRisk

_STACK = 2**25
"""Numbers in the captures of all the models together."""

_CHECKED = 8
"""Examples on which each model's factors are compared with autograd."""


def prepare(risks: Sequence[EmpiricalRisk]) -> None:
    """One vmapped pass in place of each risk's own `kept_captures` and outputs.

    For risks that `EmpiricalRisk.at` made of one another, of nets of linear layers with one
    position each and finite parameters, as far as memory goes. The others make their own passes,
    with the same numbers up to rounding; a diverged model does not touch those beside it.
    """
    stack = [risk for risk in risks if bool(risk.theta.isfinite().all())]
    stack = [risk for risk in stack if risk.shares_all_but_theta(stack[0])]
    layers = layers_of(stack[0]) if len(stack) > 1 else None
    kept = None if layers is None else kept_captures(stack[0])
    if layers is None or kept is None:
        return
    most = _STACK // max(1, sum(captured.numbers for _, captured in kept))
    stack, batches = stack[1 : max(1, most)], [batch for batch, _ in kept]
    parts = [_captures(stack, layers, batch) for batch in batches] if stack else []
    for risk, *own in zip(stack, *parts, strict=True):
        if _is_explained(risk, batches[0][0], own[0]):
            _keep(risk, layers, list(zip(batches, own, strict=True)))


def _keep(risk: EmpiricalRisk, layers: list[Layer], captures: list[tuple[Batch, Capture]]) -> None:
    risk.once("explained parameters", lambda: frozenset(risk.layout.names))
    risk.once("layers", lambda: layers)
    risk.once("kept captures", lambda: captures)
    risk.once("outputs", lambda: torch.cat([own.outputs for _, own in captures]).double())


def _captures(
    risks: Sequence[EmpiricalRisk], layers: Sequence[Layer], batch: Batch
) -> list[Capture]:
    """Each model's, for the unit vectors of the outputs' space."""
    first, inputs = risks[0], batch[0]
    modules = [first.module.get_submodule(layer.module) for layer in layers]
    sizes = [layer.shape[0] for layer in layers]
    zero = torch.zeros(len(inputs), sum(sizes), dtype=first.dtype, device=first.device)
    units = torch.eye(first.num_outputs, dtype=first.dtype, device=first.device)
    cotangents = units[:, None].expand(-1, len(inputs), -1)

    def one(theta: Float[Tensor, " P"]) -> tuple[Tensor, list[Tensor], Tensor]:
        def forward(delta: Float[Tensor, "B s"]) -> tuple[Tensor, list[Tensor]]:
            with shifted(modules, delta.split(sizes, 1)) as seen:
                return first.outputs(theta, inputs), seen

        pulled: tuple[Any, ...] = torch.func.vjp(forward, zero, has_aux=True)
        outputs, pull, seen = pulled
        return outputs, seen, torch.func.vmap(pull)(cotangents)[0]

    outputs, seen, gradients = torch.func.vmap(one)(torch.stack([r.theta for r in risks]))
    return [
        Capture(
            outputs[m],
            dict(_factors(first.layout, layers, [each[m] for each in seen], gradients[m])),
            outputs.new_zeros(len(units), len(inputs), 0),
        )
        for m in range(len(risks))
    ]


def _factors(
    layout: Layout,
    layers: Sequence[Layer],
    inputs: Sequence[Float[Tensor, "B D"]],
    gradients: Float[Tensor, "C B s"],
) -> Iterator[tuple[str, Factor]]:
    """By parameter, as `capture` gives them; a bias has the input 1."""
    shapes = dict(zip(layout.names, layout.shapes, strict=True))
    for layer, own in zip(layers, inputs, strict=True):
        g = gradients[None, :, :, None, layer.outputs].contiguous()
        a = own[None, :, None]
        for name in layer.names:
            yield name, Factor(a if len(shapes[name]) > 1 else torch.ones_like(a[..., :1]), g)


def _is_explained(risk: EmpiricalRisk, inputs: Tensor, captured: Capture) -> bool:
    """Whether factors and autograd agree on the gradient of a sum over the first examples.

    What holds at the first model's parameters need not at others, such as zeros.
    """
    count = min(_CHECKED, len(inputs))
    numbers = torch.arange(1, count * risk.num_outputs + 1, device=risk.device)
    rows = numbers.to(risk.theta).sin().view(count, -1)
    plain = torch.func.grad(lambda at: (risk.outputs(at, inputs[:count]) * rows).sum())(risk.theta)
    found: dict[str, Tensor] = {}
    for name, factor in captured.factors.items():
        g, a = factor.gradients[0, :, :count, 0], factor.inputs[0, :count, 0]
        found[name] = torch.einsum("bc,cbo,bd->od", rows, g, a)
    own = torch.cat([found[name].flatten() for name in risk.layout.names])
    tolerance = torch.finfo(risk.dtype).eps ** 0.5 * plain.abs().max()
    return bool((own - plain).abs().max() <= tolerance)
