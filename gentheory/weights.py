"""The weights as they act: BatchNorm folded into the layer before it, and their spectral norms."""

import copy
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.linalg import LinearOperator, largest
from gentheory.params import flatten, load_flat
from gentheory.risk import EmpiricalRisk
from gentheory.seeds import generator

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FOLDABLE = (nn.Linear, *_CONVOLUTIONS)
_RTOL = 1e-6
_MAX_MEMORY = 2**28


@dataclass(frozen=True)
class Folded:
    """A checkpoint of the same function with BatchNorm folded, and what could not be."""

    checkpoint: Checkpoint
    warnings: tuple[str, ...]


def folded(checkpoint: Checkpoint) -> Folded:
    """BatchNorm in eval mode as part of the linear or convolutional layer right before it.

    With the running statistics (μ, v): W → γ W / √(v + ε), b → γ (b − μ) / √(v + ε) + β, at the
    trained and at the initial parameters alike: a checkpoint holds no earlier statistics. What
    stands before a BatchNorm is found by running the net, and a fold is kept only if the outputs
    stay what they were; any other BatchNorm stays as it is, and a warning names it. The same
    checkpoint where there is nothing to fold.
    """
    risk = checkpoint.risk
    pairs = risk.once("folds", lambda: _folds(risk))
    left = [name for name in _parts(risk.module, _NORMS) if name not in pairs]
    warnings = (
        ()
        if not left
        else (f"BatchNorm not folded, not right behind a layer of its own: {', '.join(left)}",)
    )
    if not pairs:
        return Folded(checkpoint, warnings)
    merged = risk.of_module(_merged(risk, risk.theta, pairs))
    initial = checkpoint.initial
    start = None if initial is None else flatten(_merged(risk, initial, pairs))
    return Folded(replace(checkpoint, risk=merged, initial=start), warnings)


class Convolution(NamedTuple):
    """A convolution in float64 and without bias, and the shape of the examples it is called on."""

    layer: nn.Module
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Weight:
    """A parameter with two axes or more: a matrix, or the kernel of a convolution."""

    name: str
    values: Tensor  # in float64, in the parameter's own shape
    convolutions: tuple["Convolution", ...] = ()
    """What it is the kernel of; empty of a matrix."""


@dataclass(frozen=True)
class Weights:
    """All of a net's weights, BatchNorm folded, tied ones once, frozen ones included."""

    place: str
    """Where they are asked for, which refusals name."""
    original: Checkpoint
    folded: Checkpoint
    entries: tuple[Weight, ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, checkpoint: Checkpoint, place: str) -> "Weights":
        """Parameters of one axis (biases, scales) are left out.

        Raises `InputError` naming `place` for a net without a weight.
        """
        found = folded(checkpoint)
        risk = found.checkpoint.risk
        kernels = _kernels(risk)
        entries = tuple(
            Weight(name, tensor, kernels.get(name, ()))
            for name, tensor in _tensors(risk, risk.theta).items()
            if tensor.dim() >= 2
        )
        if not entries:
            raise InputError(
                place,
                "no parameter with two axes or more",
                "a matrix or a kernel of a convolution",
                "use norms.parameters",
            )
        return cls(place, checkpoint, found.checkpoint, entries, found.warnings)

    @property
    def frobenius(self) -> Float[Tensor, " L"]:
        """‖W‖_F² of each."""
        return torch.stack([entry.values.square().sum() for entry in self.entries])

    @property
    def frobenius_apart(self) -> Float[Tensor, " L"]:
        """‖W − W₀‖_F² of each. Raises `InputError` without an initialization."""
        return torch.stack([way.square().sum() for way in self._apart()])

    def spectral(self) -> Float[Tensor, "2 L"]:
        """‖W‖₂² of each, and how far at most Lanczos may be off; 0 for a matrix.

        From a start that is always the same, so that measures can share them. Raises `InputError`
        for a weight of zeros.
        """
        self.check_nonzero()

        def compute() -> Float[Tensor, "2 L"]:
            norms = [spectral_norm(entry, entry.values) for entry in self.entries]
            return self.entries[0].values.new_tensor(norms).T

        return self.original.risk.once("squared spectral norms", compute)

    def spectral_apart(self) -> Float[Tensor, "2 L"]:
        """‖W − W₀‖₂² of each, as `spectral`. Raises `InputError` without an initialization."""
        norms = [spectral_norm(*pair) for pair in zip(self.entries, self._apart(), strict=True)]
        return self.entries[0].values.new_tensor(norms).T

    def check_nonzero(self) -> None:
        """Raise `InputError` for a weight of zeros, whose norm has no logarithm and no inverse."""
        for entry in self.entries:
            if not bool(entry.values.any()):
                raise InputError(
                    self.place,
                    f"zeros only in {entry.name}",
                    "a number that is not zero in every weight",
                    "use norms.frobenius_sum",
                )

    def _apart(self) -> list[Tensor]:
        """W − W₀ of each."""
        initial = self.folded.initial_for(self.place)
        before = _tensors(self.folded.risk, initial)
        return [entry.values - before[entry.name] for entry in self.entries]


def spectral_norm(weight: Weight, values: Tensor) -> tuple[float, float]:
    """(‖W‖₂², a bound on its error) of a weight with these values in place of its own.

    A matrix by its singular values. A convolution as the linear map that it is, with its own
    padding, stride, dilation and groups on inputs of the size it gets, by Lanczos on WᵀW; the
    largest, where it is called on several sizes. Further axes of other weights count as columns.
    """
    if not weight.convolutions or not bool(values.any()):
        return float(torch.linalg.matrix_norm(values.flatten(1), 2).square()), 0.0
    found = [
        largest(
            _normal(convolution, values),
            1,
            rtol=_RTOL,
            max_memory=_MAX_MEMORY,
            generator=generator("spectral norm"),
        )
        for convolution in weight.convolutions
    ]
    return max((float(pairs.values[0]), float(pairs.residuals[0])) for pairs in found)


def _normal(convolution: Convolution, kernel: Tensor) -> LinearOperator:
    """WᵀW of the convolution with this kernel."""
    layer, shape = convolution

    def convolved(x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": kernel}, (x,))

    def block(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        image, *pulls = torch.func.vjp(convolved, v.reshape(len(v), *shape))
        return pulls[0](image)[0].reshape(v.shape)

    return LinearOperator(block, math.prod(shape), kernel.dtype, kernel.device)


def _tensors(risk: EmpiricalRisk, theta: Float[Tensor, " P"]) -> dict[str, Tensor]:
    """All parameters by name in float64, the trainable ones from theta."""
    own = {name: p.detach() for name, p in risk.module.named_parameters()}
    return {name: t.double() for name, t in {**own, **risk.layout.unflatten(theta)}.items()}


def _kernels(risk: EmpiricalRisk) -> dict[str, tuple[Convolution, ...]]:
    """By the name of the kernel: the convolutions it is in, once for each shape."""
    canonical = {id(p): name for name, p in risk.module.named_parameters()}
    layers = _parts(risk.module, (*_CONVOLUTIONS, *_TRANSPOSED)).values()
    with _calls(layers) as calls, torch.no_grad():
        risk.outputs(risk.theta, next(risk.batches())[0][:1])
    found: dict[str, dict[tuple[int, tuple[int, ...]], Convolution]] = {}
    for part, x, _ in calls:
        name = canonical.get(id(part.weight))
        if name is None:  # made of other parameters, which count as they are
            continue
        layer, shape = copy.deepcopy(part).double(), tuple(x.shape[-_dimensions(part) :])
        layer.bias = None
        found.setdefault(name, {})[id(part), shape] = Convolution(layer, shape)
    return {name: tuple(uses.values()) for name, uses in found.items()}


def _dimensions(convolution: Any) -> int:
    """Axes of one example: channels and space."""
    return convolution.weight.dim() - 1


def _folds(risk: EmpiricalRisk) -> Mapping[str, str]:
    """BatchNorm's name -> the layer's before it, for those that a fold leaves the net the same."""
    norms, layers = _parts(risk.module, _NORMS), _parts(risk.module, _FOLDABLE)
    if not norms:
        return {}
    inputs = next(risk.batches())[0][:8]
    with _calls([*norms.values(), *layers.values()]) as calls, torch.no_grad():
        expected = risk.outputs(risk.theta, inputs)
    names = {id(part): name for name, part in (*norms.items(), *layers.items())}
    made = {id(output): names[id(part)] for part, _, output in calls if names[id(part)] in layers}
    pairs = {
        names[id(part)]: made[id(x)]
        for part, x, _ in calls
        if names[id(part)] in norms and id(x) in made and part.running_var is not None
    }
    tolerance = torch.finfo(risk.dtype).eps ** 0.5 * expected.abs().max()

    def same(chosen: Mapping[str, str]) -> bool:
        merged = risk.of_module(_merged(risk, risk.theta, chosen))
        with torch.no_grad():
            outputs = merged.outputs(merged.theta, inputs)
        return bool((outputs - expected).abs().max() <= tolerance)

    if same(pairs):
        return pairs
    return {norm: layer for norm, layer in pairs.items() if same({norm: layer})}


def _merged(risk: EmpiricalRisk, theta: Float[Tensor, " P"], pairs: Mapping[str, str]) -> nn.Module:
    """A copy of the module at theta with each BatchNorm merged into its layer."""
    module = copy.deepcopy(risk.module)
    load_flat(module, theta)
    for name, before in pairs.items():
        norm: Any = module.get_submodule(name)
        layer: Any = module.get_submodule(before)
        scale = (norm.running_var + norm.eps).rsqrt()
        scale, shift = (scale, 0.0) if norm.weight is None else (scale * norm.weight, norm.bias)
        bias = shift - norm.running_mean * scale
        bias = bias if layer.bias is None else bias + layer.bias * scale
        weight = layer.weight * scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        trained = any(p.requires_grad for part in (norm, layer) for p in part.parameters())
        layer.weight = nn.Parameter(weight.detach(), requires_grad=trained)
        layer.bias = nn.Parameter(bias.detach(), requires_grad=trained)
        module.set_submodule(name, nn.Identity())
    return module


def _parts(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> dict[str, Any]:
    return {name: part for name, part in module.named_modules() if isinstance(part, kinds)}


@contextmanager
def _calls(parts: Any) -> Generator[list[tuple[Any, Tensor, Tensor]], None, None]:
    """(module, input, output) of every call, in order; kept, so that identities stay apart."""
    calls: list[tuple[Any, Tensor, Tensor]] = []

    def hook(part: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((part, args[0], output))

    handles = [part.register_forward_hook(hook) for part in parts]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
