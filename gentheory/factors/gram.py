"""The Gram matrix of all examples' output gradients, J Jᵀ, out of layer factors, without J.

For linear layers it is Σ_layers (A Aᵀ) ∘ (G Gᵀ): the empirical neural tangent kernel with all its
outputs (Jacot et al. 2018; the contraction as in Novak et al. 2022).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.errors import InputError
from gentheory.factors.capture import Capture, Factor
from gentheory.factors.passes import output_captures
from gentheory.risk import EmpiricalRisk

_BLOCK = 100
"""Examples a block of the matrix."""


def gram(
    risk: EmpiricalRisk, other: EmpiricalRisk | None = None, *, max_memory: int | None = None
) -> Float[Tensor, "N C n C"]:
    """⟨∂f_ic/∂θ, ∂f_jd/∂θ⟩ in float64, without weight decay. Takes (N C)² numbers.

    Between the examples of the risk and those of `other`, a risk of the same model, or among its
    own: then half of the products, for the other half is their mirror image. Products are in the
    risk's dtype. Within `max_memory` bytes factors that do not fit are captured again for each
    part of the rows; refused where the matrix itself does not fit.
    """
    count, classes = risk.num_examples, risk.num_outputs
    shape = (count, classes, count if other is None else other.num_examples, classes)
    total = _empty(risk, shape, max_memory)
    for pair in _pairs(risk, other, _left(total, max_memory)):
        block = _block(pair.left, pair.right)  # [C, B, C, B]
        total[pair.rows, :, pair.columns] = block.permute(1, 0, 3, 2).double()
        if pair.mirrored:
            total[pair.columns, :, pair.rows] = block.permute(3, 2, 1, 0).double()
    return total


def output_grams(
    risk: EmpiricalRisk, other: EmpiricalRisk | None = None, *, max_memory: int | None = None
) -> Float[Tensor, "C N n"]:
    """⟨∂f_ic/∂θ, ∂f_jc/∂θ⟩, a matrix for each output; otherwise as `gram`."""
    count = risk.num_examples
    shape = (risk.num_outputs, count, count if other is None else other.num_examples)
    total = _empty(risk, shape, max_memory)
    for pair in _pairs(risk, other, _left(total, max_memory)):
        block = _own_block(pair.left, pair.right).double()
        total[:, pair.rows, pair.columns] = block
        if pair.mirrored:
            total[:, pair.columns, pair.rows] = block.mT
    return total


def trace_gram(
    risk: EmpiricalRisk, other: EmpiricalRisk | None = None, *, max_memory: int | None = None
) -> Float[Tensor, "N n"]:
    """Σ_c ⟨∂f_ic/∂θ, ∂f_jc/∂θ⟩, the trace over the outputs; otherwise as `gram`."""
    count = risk.num_examples
    shape = (count, count if other is None else other.num_examples)
    total = _empty(risk, shape, max_memory)
    for pair in _pairs(risk, other, _left(total, max_memory)):
        block = _own_block(pair.left, pair.right).double().sum(0)
        total[pair.rows, pair.columns] = block
        if pair.mirrored:
            total[pair.columns, pair.rows] = block.mT
    return total


def _empty(risk: EmpiricalRisk, shape: tuple[int, ...], max_memory: int | None) -> Tensor:
    needed = 8 * torch.Size(shape).numel()
    if max_memory is not None and needed > max_memory:
        raise InputError(
            "tangent kernel",
            f"{' × '.join(map(str, shape))} numbers, which take {needed / 2**30:.2f} GiB",
            f"at most max_memory = {max_memory / 2**30:.2f} GiB",
            "use fewer examples, the kernel's trace over the outputs, or raise max_memory",
        )
    return torch.empty(shape, dtype=torch.float64, device=risk.device)


def _left(total: Tensor, max_memory: int | None) -> int | None:
    return None if max_memory is None else max_memory - 8 * total.numel()


@dataclass(frozen=True)
class _Pair:
    """Two captures of examples, and where they lie in the matrix."""

    rows: slice
    columns: slice
    left: Capture
    right: Capture
    mirrored: bool


_Placed = tuple[slice, Capture]


def _pairs(
    risk: EmpiricalRisk, other: EmpiricalRisk | None, max_memory: int | None
) -> Iterator[_Pair]:
    """All pairs of blocks of examples; a panel of rows at a time is kept in memory."""
    for panel in _panels(risk, max_memory):
        kept = list(_placed(risk, panel))
        if other is None:
            for index, (rows, left) in enumerate(kept):
                for columns, right in kept[: index + 1]:
                    yield _Pair(rows, columns, left, right, mirrored=rows != columns)
        beyond = slice(0, None) if other is not None else slice(panel.stop, None)
        if other is None and panel.stop == risk.num_examples:
            return
        for columns, right in _placed(other or risk, beyond):
            for rows, left in kept:
                yield _Pair(rows, columns, left, right, mirrored=other is None)


def _panels(risk: EmpiricalRisk, max_memory: int | None) -> list[slice]:
    """Ranges of examples whose factors fit into half of the memory; one if there is no limit."""
    size = risk.num_examples
    if max_memory is not None:
        _, one = next(_placed(risk, slice(0, 1)))
        size = max(1, max_memory // (2 * _size(one)))
    edges = [*range(0, risk.num_examples, size), risk.num_examples]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _size(captured: Capture) -> int:
    """Bytes of a capture; what two parameters share counts once."""
    parts = [t for f in captured.factors.values() for t in (f.inputs, f.gradients)]
    return sum({t.data_ptr(): t.nbytes for t in [captured.rest, *parts]}.values())


def _placed(risk: EmpiricalRisk, span: slice) -> Iterator[_Placed]:
    """Captures of at most `_BLOCK` examples, and where they lie among all."""
    start = span.start
    for _, captured in output_captures(risk, span):
        parts = _cut(captured)
        ends = list(accumulate((len(part.outputs) for part in parts), initial=start))
        yield from zip((slice(a, b) for a, b in pairwise(ends)), parts, strict=True)
        start = ends[-1]


def _cut(captured: Capture) -> list[Capture]:
    """Captures of fewer examples: small blocks stay in the caches, and spare more mirror images."""
    pieces = {
        name: zip(factor.inputs.split(_BLOCK, 1), factor.gradients.split(_BLOCK, 2), strict=True)
        for name, factor in captured.factors.items()
    }
    parts = zip(captured.outputs.split(_BLOCK), captured.rest.split(_BLOCK, 1), strict=True)
    return [
        Capture(outputs, {name: Factor(*next(pieces[name])) for name in pieces}, rest)
        for outputs, rest in parts
    ]


def _block(left: Capture, right: Capture) -> Float[Tensor, "C B C b"]:
    total = torch.einsum("kbp,jep->kbje", left.rest, right.rest)
    for names in _same_gradients(left):
        pairs = [(left.factors[name], right.factors[name]) for name in names]
        if pairs[0][0].inputs.shape[2] == 1:
            # Weight and bias of a layer have the same output-gradients: one product serves both.
            inputs = sum(one.inputs[:, :, 0] @ two.inputs[:, :, 0].mT for one, two in pairs)
            one, two = (factor.gradients[:, :, :, 0].flatten(1, 2) for factor in pairs[0])
            for a, g in zip(torch.as_tensor(inputs), one @ two.mT, strict=True):
                total.addcmul_(g.view_as(total), a[None, :, None, :])
        else:
            # Positions would square the work: with several the gradients themselves are cheaper.
            for one, two in pairs:
                total += torch.einsum("kbp,jep->kbje", one.dense(), two.dense())
    return total


def _own_block(left: Capture, right: Capture) -> Float[Tensor, "C B b"]:
    """Of each output with itself alone."""
    total = left.rest @ right.rest.mT
    for names in _same_gradients(left):
        pairs = [(left.factors[name], right.factors[name]) for name in names]
        if pairs[0][0].inputs.shape[2] == 1:
            inputs = [one.inputs[:, :, 0] @ two.inputs[:, :, 0].mT for one, two in pairs]
            one, two = (factor.gradients[:, :, :, 0] for factor in pairs[0])
            total += (torch.stack(inputs).sum(0)[:, None] * (one @ two.mT)).sum(0)
        else:
            for one, two in pairs:
                products = (_of(one, k) @ _of(two, k).mT for k in range(len(total)))
                total += torch.stack(list(products))
    return total


def _of(factor: Factor, k: int) -> Float[Tensor, "B P"]:
    """The gradients of one output: those of all at once may not fit."""
    return Factor(factor.inputs, factor.gradients[:, k : k + 1]).dense()[0]


def _same_gradients(captured: Capture) -> list[list[str]]:
    """Names of parameters whose factors hold the very same output-gradients."""
    groups: dict[tuple[int, torch.Size], list[str]] = {}
    for name, factor in captured.factors.items():
        key = (factor.gradients.data_ptr(), factor.gradients.shape)
        groups.setdefault(key, []).append(name)
    return list(groups.values())
