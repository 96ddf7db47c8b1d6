"""Dense curvature and gradient covariance out of layer factors, where a layer has one position.

The gradient of example i in a layer is g_i a_iᵀ, a_i with a 1 for the bias. So its share of the
block of layers l and m is (S_i)_lm ⊗ a_il a_imᵀ, S_i a matrix over the layers' outputs: Jᵀ W J with
the Jacobian J in those outputs for the GGN, g gᵀ for C. A sum over examples is one matrix product;
no Jacobian in the parameters is built, and the work does not grow with the number of outputs.

The Hessian, with the loss's own for S_i, has besides the terms (K_i)_mlᵀ a_il ⊗ g_im where the
inputs of layer m depend by (K_i)_ml on the outputs of layer l, and their mirror images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations_with_replacement, pairwise, permutations

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.data.batches import Batch
from gentheory.factors.capture import Capture
from gentheory.factors.passes import kept_captures, output_captures
from gentheory.factors.shifts import shifts
from gentheory.middles import Curvature, Middle, middle_of
from gentheory.modes import Moments
from gentheory.risk import EmpiricalRisk

_NUMBERS = 2**21
"""Numbers at once in products of inputs, or of outputs."""


@dataclass(frozen=True)
class Layer:
    """A layer's parameters, as matrices [o, d] that stand side by side, and its o outputs."""

    names: tuple[str, ...]
    columns: tuple[slice, ...]  # of each parameter; the bias has one
    theta: tuple[slice, ...]  # where each lies in theta
    outputs: slice  # among the s of all layers

    @property
    def module(self) -> str:
        """Its name in the net."""
        return self.names[0].rpartition(".")[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Of its parameters together: outputs, inputs."""
        return self.outputs.stop - self.outputs.start, self.columns[-1].stop

    def inputs(self, captured: Capture) -> Float[Tensor, "B d"]:
        """With a column of ones for the bias; float64."""
        return torch.cat([captured.factors[n].inputs[0, :, 0] for n in self.names], 1).double()

    def gradients(self, captured: Capture) -> Float[Tensor, "B K o"]:
        """Of the cotangents' products with the outputs; float64."""
        return captured.factors[self.names[0]].gradients[0, :, :, 0].transpose(0, 1).double()


def layers_of(risk: EmpiricalRisk) -> list[Layer] | None:
    """The layers; None unless each parameter belongs to one called once, at one position."""
    return risk.once("layers", lambda: _layers_of(risk))


def layered_moments(
    risk: EmpiricalRisk,
    layers: Sequence[Layer],
    curvature: Curvature,
    generator: Generator,
    *,
    blocks: Sequence[slice] | None = None,
) -> list[Moments]:
    """H, C and mean gradient on all parameters, or on blocks of whole layers.

    2 p² numbers and 2 N · p² multiplications for each block of p parameters.
    """
    blocks = [slice(0, risk.num_params)] if blocks is None else blocks
    sums = [_Sums.zero(block, layers, risk) for block in blocks]
    middle = None if curvature == "hessian" else middle_of(risk, curvature, generator)
    for part in _parts(risk, layers, middle):
        for each in sums:
            each.add(part)
    return [each.moments(risk.num_examples) for each in sums]


def outputs_along(
    risk: EmpiricalRisk, layers: Sequence[Layer], vectors: Float[Tensor, "P K"]
) -> Float[Tensor, "N C K"]:
    """J_i v_k in float64, by N · (P + C s) · K multiplications for s outputs of all layers."""
    found: list[Tensor] = []
    widest = max(layer.shape[0] for layer in layers)
    size = max(1, _NUMBERS // (widest * vectors.shape[1]))
    for _, captured in output_captures(risk):
        total = vectors.new_zeros(*captured.outputs.shape, vectors.shape[1])
        for layer in layers:
            parts = [vectors[own].unflatten(0, (layer.shape[0], -1)) for own in layer.theta]
            matrix = torch.cat(parts, 1).transpose(0, 1).flatten(1)  # [d, o K]
            pairs = (layer.gradients(captured), layer.inputs(captured), total)
            for g, a, rows in zip(*(each.split(size) for each in pairs), strict=True):
                rows.baddbmm_(g, (a @ matrix).unflatten(1, (layer.shape[0], -1)))
        found.append(total)
    return torch.cat(found)


@dataclass(frozen=True)
class _Part:
    """What a chunk of examples adds, by the s outputs of all layers."""

    inputs: list[Float[Tensor, "B d"]]
    gradients: Float[Tensor, "B s"]
    """Of the examples' losses."""
    left: Float[Tensor, "B C s"]
    right: Float[Tensor, "B C s"]
    """S_i of the curvature is leftᵀ right."""
    couplings: list[Float[Tensor, "B d s"]] | None
    """K_i of each layer's inputs, for the Hessian."""

    def cores(self, one: slice, other: slice) -> Float[Tensor, "2 B o p"]:
        """The blocks of S_i of the curvature and of C."""
        curved = self.left[:, :, one].mT @ self.right[:, :, other]
        g = self.gradients
        return torch.stack([curved, g[:, one, None] * g[:, None, other]])


@dataclass(frozen=True)
class _Sums:
    """Matrices over the examples so far, to which their transposes are still to be added."""

    block: slice
    layers: dict[int, Layer]
    """Those in the block, by their place among all."""
    totals: Float[Tensor, "2 p p"]
    gradient: Float[Tensor, " p"]

    @classmethod
    def zero(cls, block: slice, layers: Sequence[Layer], risk: EmpiricalRisk) -> "_Sums":
        inside = {
            place: layer
            for place, layer in enumerate(layers)
            if block.start <= layer.theta[0].start < block.stop
        }
        size = block.stop - block.start
        totals = torch.zeros(2, size, size, dtype=torch.float64, device=risk.device)
        return cls(block, inside, totals, totals.new_zeros(size))

    def add(self, part: _Part) -> None:
        for place, layer in self.layers.items():
            mean = part.gradients[:, layer.outputs].T @ part.inputs[place]
            for own, columns in self._spans(layer):
                self.gradient[own] += mean[:, columns].flatten()
        for one, other in combinations_with_replacement(self.layers, 2):
            outputs = (self.layers[place].outputs for place in (one, other))
            found = _products(part.cores(*outputs), part.inputs[one], part.inputs[other])
            self._place(one, other, found, 0.5 if one == other else 1.0)
        if part.couplings is not None:
            for one, other in permutations(self.layers, 2):
                self._couple(part, part.couplings[other], one, other)

    def moments(self, count: int) -> Moments:
        curvature, covariance = ((total + total.T).div_(count) for total in self.totals)
        return Moments(self.block, curvature, covariance, self.gradient / count)

    def _couple(self, part: _Part, coupling: Tensor, one: int, other: int) -> None:
        """Where `other`'s inputs depend on what `one` puts out."""
        first, second = (self.layers[place].outputs for place in (one, other))
        coupling = coupling[:, :, first]  # [B, e, o]
        if coupling.any():
            paired = part.inputs[one][:, :, None] * part.gradients[:, None, second]  # [B, d, p]
            found = coupling.flatten(1).T @ paired.flatten(1)
            found = found.unflatten(1, paired.shape[1:]).unflatten(0, coupling.shape[1:])
            self._place(one, other, found.permute(1, 2, 3, 0)[None], 1.0)

    def _place(self, one: int, other: int, found: Float[Tensor, "K o d p e"], share: float) -> None:
        for rows, left in self._spans(self.layers[one]):
            for columns, right in self._spans(self.layers[other]):
                own = found[:, :, left, :, right]
                totals = self.totals[: len(found), rows, columns]  # couplings have no C
                shaped = totals.unflatten(2, own.shape[3:]).unflatten(1, own.shape[1:3])
                shaped.add_(own, alpha=share)

    def _spans(self, layer: Layer) -> Iterator[tuple[slice, slice]]:
        """Each parameter's place in the block, and its columns."""
        start = self.block.start
        for where, columns in zip(layer.theta, layer.columns, strict=True):
            yield slice(where.start - start, where.stop - start), columns


def _products(
    cores: Float[Tensor, "K B o p"], a: Float[Tensor, "B d"], b: Float[Tensor, "B e"]
) -> Float[Tensor, "K o d p e"]:
    """Σ_i S_i ⊗ a_i b_iᵀ, by the products of a and b, or of S and a where these are fewer."""
    outputs, features = cores.shape[2:], (a.shape[1], b.shape[1])
    if features[1] > _few(*outputs):
        rows = [(core[:, :, :, None] * a[:, None]).flatten(2).mT @ b for core in cores.unbind(2)]
        found = torch.stack([row.unflatten(1, (outputs[1], -1)) for row in rows], 1)
        return found.transpose(2, 3)
    outer = (a[:, :, None] * b[:, None]).flatten(1)
    if a is not b:
        found = (cores.permute(0, 2, 3, 1).flatten(1, 2) @ outer).unflatten(1, outputs)
    else:  # symmetric in its outputs: half of them do
        upper = torch.triu_indices(*outputs, device=cores.device)
        half = cores[:, :, upper[0], upper[1]].mT @ outer
        found = half.new_empty(len(cores), *outputs, half.shape[2])
        found[:, upper[0], upper[1]] = half
        found[:, upper[1], upper[0]] = half
    return found.unflatten(3, features).transpose(2, 3)


def _few(*outputs: int) -> int:
    """Features up to which their products are fewer than those with two matrices of outputs."""
    return 2 * outputs[0] * outputs[1]


def _parts(risk: EmpiricalRisk, layers: Sequence[Layer], middle: Middle | None) -> Iterator[_Part]:
    """In chunks of bounded memory."""
    size = max(1, _NUMBERS // max(_numbers(layers)))
    for whole, captured in output_captures(risk):
        inputs = [layer.inputs(captured) for layer in layers]
        jacobian = torch.cat([layer.gradients(captured) for layer in layers], 2)
        residuals = risk.loss.gradient(captured.outputs, whole[1]).double()
        gradients = (residuals[:, None] @ jacobian)[:, 0]
        weighted = (
            jacobian if middle is None else middle(captured.outputs, whole).double() @ jacobian
        )
        for start in range(0, len(gradients), size):
            own = slice(start, start + size)
            kept = [each[own] for each in inputs]
            if middle is None:
                yield _hessian_part(
                    risk, layers, (whole[0][own], whole[1][own]), kept, gradients[own]
                )
            else:
                yield _Part(kept, gradients[own], jacobian[own], weighted[own], None)


def _hessian_part(
    risk: EmpiricalRisk,
    layers: Sequence[Layer],
    batch: Batch,
    inputs: list[Tensor],
    gradients: Float[Tensor, "B s"],
) -> _Part:
    sizes = [layer.shape[0] for layer in layers]
    found = shifts(risk, batch, [layer.module for layer in layers], sizes)
    eye = torch.eye(sum(sizes), dtype=found.hessian.dtype, device=risk.device)
    # A layer's inputs have a 1 for the bias, which depends on nothing.
    couplings = [
        torch.nn.functional.pad(own, (0, 0, 0, given.shape[1] - own.shape[1]))
        for own, given in zip(found.inputs, inputs, strict=True)
    ]
    return _Part(inputs, gradients, eye.expand(len(gradients), -1, -1), found.hessian, couplings)


def _numbers(layers: Sequence[Layer]) -> Iterator[int]:
    """An example's numbers in the largest products."""
    yield layers[-1].outputs.stop ** 2
    for one, other in combinations_with_replacement(layers, 2):
        (o, d), (p, e) = one.shape, other.shape
        yield d * e if e <= _few(o, p) else 2 * p * d


def _layers_of(risk: EmpiricalRisk) -> list[Layer] | None:
    kept = kept_captures(risk)
    _, captured = kept[0] if kept else next(output_captures(risk, slice(0, 1)))
    shapes = [factor.inputs.shape for factor in captured.factors.values()]
    if len(shapes) < len(risk.layout.names) or any(s[0] * s[2] > 1 for s in shapes):
        return None
    owned: dict[str, list[str]] = {}
    for name in risk.layout.names:
        owned.setdefault(name.rpartition(".")[0], []).append(name)
    # A weight and a bias of one call: the same gradients, not only alike.
    alike = captured.same_gradients()
    if any(names not in alike for names in owned.values()):
        return None
    found: list[Layer] = []
    for names in owned.values():
        ends = list(accumulate(captured.factors[name].inputs.shape[-1] for name in names))
        columns = tuple(slice(a, b) for a, b in pairwise([0, *ends]))
        theta = tuple(risk.layout.slices[name] for name in names)
        start = found[-1].outputs.stop if found else 0
        width = captured.factors[names[0]].gradients.shape[-1]
        found.append(Layer(tuple(names), columns, theta, slice(start, start + width)))
    return found
