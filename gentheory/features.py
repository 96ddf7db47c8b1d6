"""What the layers of a net are given: features, read batch by batch and never kept.

The features of a layer are its inputs on each example, flattened; those of the classifier are the
penultimate features. The net is the risk's private copy in eval mode.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentheory.errors import InputError
from gentheory.risk import EmpiricalRisk

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Classifier(NamedTuple):
    """The linear layer that yields the outputs: W h + b for its inputs h."""

    name: str
    weight: Float[Tensor, "C D"]
    """W, times the constant by which the net multiplies the layer's outputs, where it does."""
    bias: Float[Tensor, " C"] | None


@dataclass(frozen=True)
class FeatureBatch:
    """Features of some examples by the layer's name, and what came out of the net for them."""

    features: Mapping[str, Float[Tensor, "B _"]]
    outputs: Float[Tensor, "B C"]
    targets: Tensor  # [B] or [B, C]


def classifier(risk: EmpiricalRisk) -> Classifier:
    """The last linear layer, at the risk's parameters; its outputs are the net's, to a factor.

    Raises `InputError` where there is no such layer: the net ends in something else.
    """
    return risk.once("classifier", lambda: _classifier(risk))


def layer_names(risk: EmpiricalRisk) -> tuple[str, ...]:
    """Linear and convolutional layers that are called once, in the order of the forward pass.

    Those whose inputs have the examples on their first axis. Any other module that does may be
    named in `feature_batches` as well.
    """
    found = risk.once("layer inputs", lambda: _shapes(risk))
    modules = dict(risk.module.named_modules())
    return tuple(name for name in found if name and isinstance(modules[name], _LAYERS))


def feature_sizes(risk: EmpiricalRisk, layers: Sequence[str] = ()) -> dict[str, int]:
    """D, the number of features of each of the layers; of the classifier where none is named.

    Raises `InputError` for a name that is not a module's, for a module that is called more than
    once or not at all, and for one whose inputs do not have the examples on their first axis.
    """
    names = tuple(layers) or (classifier(risk).name,)
    found = risk.once("layer inputs", lambda: _shapes(risk))
    for name in names:
        if name not in found:
            known = ", ".join(layer_names(risk)) or "none in this net"
            raise InputError(
                "layers",
                f"{name!r}, no module that is called once with the examples on the first axis",
                f"layers such as {known}",
                "choose some of them",
            )
    return {name: found[name].numel() for name in names}


def feature_batches(risk: EmpiricalRisk, layers: Sequence[str] = ()) -> Iterator[FeatureBatch]:
    """The inputs of the named modules, flattened to [B, D], batch by batch in the risk's order.

    Without layers the classifier's. One forward pass; nothing is recorded, nothing kept. Raises
    `InputError` as `feature_sizes` does.
    """
    sizes = feature_sizes(risk, layers)
    for inputs, targets in risk.batches():
        with _inputs_of(risk.module, sizes) as found, torch.no_grad():
            outputs = risk.outputs(risk.theta, inputs)
        features = {name: found[name][-1].flatten(1) for name in sizes}
        yield FeatureBatch(features, outputs, targets)


def _shapes(risk: EmpiricalRisk) -> dict[str, torch.Size]:
    """By the name of a module that is called once: the shape of its input for one example."""
    inputs = next(risk.batches())[0]
    names = [name for name, _ in risk.module.named_modules()]
    found: list[dict[str, torch.Size]] = []
    for few in (inputs[:1], inputs[:2]):  # the first axis is the examples' if it grows with them
        with _inputs_of(risk.module, names) as calls, torch.no_grad():
            risk.outputs(risk.theta, few)
        once = {name: own[0].shape for name, own in calls.items() if len(own) == 1}
        found.append({n: shape[1:] for n, shape in once.items() if shape[0] == len(few)})
    one, two = found
    return {name: shape for name, shape in one.items() if two.get(name) == shape}


@contextmanager
def _inputs_of(
    module: nn.Module, names: Iterable[str]
) -> Generator[dict[str, list[Tensor]], None, None]:
    """By name: copies of the inputs of each call, in the order of the calls."""
    found: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Any:
        def record(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            tensors = (x for x in (*args, *named.values()) if torch.is_tensor(x))
            given = next((x for x in tensors if x.is_floating_point() and x.dim() > 1), None)
            if given is not None:  # a copy: what comes later may work in place
                found.setdefault(name, []).append(given.detach().clone())

        return record

    handles = [
        module.get_submodule(name).register_forward_pre_hook(hook(name), with_kwargs=True)
        for name in names
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _classifier(risk: EmpiricalRisk) -> Classifier:
    inputs = next(risk.batches())[0][:64]
    with _linear_calls(risk.module) as calls, torch.no_grad():
        outputs = risk.outputs(risk.theta, inputs)
    tolerance = torch.finfo(outputs.dtype).eps ** 0.5 * outputs.abs().max()
    for name, weight, bias, own in reversed(calls):
        if own.shape == outputs.shape:
            factor = _factor(own, outputs)
            # Outputs that cancel are 0 times anything.
            if bool(factor != 0) and bool((factor * own - outputs).abs().max() <= tolerance):
                return Classifier(name, factor * weight, None if bias is None else factor * bias)
    raise InputError(
        f"outputs of {type(risk.module).__name__}",
        "values that no linear layer yields",
        "a net whose last layer is an nn.Linear",
        "return its outputs as they are: logits, no softmax and no sum of nets",
    )


def _factor(own: Float[Tensor, "B C"], outputs: Float[Tensor, "B C"]) -> Tensor:
    """The constant between the two; exactly 1 where they are equal."""
    if torch.equal(own, outputs):
        return own.new_ones(())
    return (own * outputs).sum() / own.square().sum()


@contextmanager
def _linear_calls(
    module: nn.Module,
) -> Generator[list[tuple[str, Tensor, Tensor | None, Tensor]], None, None]:
    """(name, weight, bias, outputs) of every call of a linear layer, in order."""
    calls: list[tuple[str, Tensor, Tensor | None, Tensor]] = []

    def hook(name: str) -> Any:
        def record(layer: nn.Linear, _: tuple[Tensor, ...], output: Tensor) -> None:
            # Within a functional call the layer's parameters are those of the call.
            bias: Tensor | None = layer.bias
            kept = None if bias is None else bias.detach().clone()  # pyright: ignore[reportUnnecessaryComparison]
            calls.append((name, layer.weight.detach().clone(), kept, output.detach().clone()))

        return record

    layers = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
