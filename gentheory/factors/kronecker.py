"""Kronecker factors of each layer's curvature and gradient covariance, and their eigenbasis.

A layer's block (1/N) Σ_i Σ_k (Σ_t g_ikt a_itᵀ)(…)ᵀ is replaced by A ⊗ S, A the second moment of its
inputs over examples and positions, S the sum over positions of that of its output-gradients
(Martens & Grosse 2015; several positions as in Grosse & Martens 2016).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.factors.capture import Factor
from gentheory.factors.diagonal import placed, rest_moments
from gentheory.factors.passes import moment_captures
from gentheory.middles import Curvature, Middle, middle_of
from gentheory.modes import Modes
from gentheory.params import Layout
from gentheory.risk import EmpiricalRisk

Pairs = dict[str, tuple[Float[Tensor, "L D"], Float[Tensor, "L D D"]]]
"""Eigenvalues and eigenvectors of each parameter's factor."""


@dataclass(frozen=True)
class Kronecker:
    """Factors of the data's part by parameter name, in float64; exact diagonals for the others.

    Weight and bias are blocks of their own. The first axis holds the groups of a convolution.
    """

    layout: Layout
    inputs: dict[str, Float[Tensor, "L D D"]]
    curvature: dict[str, Float[Tensor, "L C C"]]  # S of the curvature
    covariance: dict[str, Float[Tensor, "L C C"]]  # S of the gradient covariance
    gradient: Float[Tensor, " P"]
    rest: Float[Tensor, "2 r"]  # diagonals of curvature and covariance where there is no factor


def kronecker(risk: EmpiricalRisk, middle: Middle) -> Kronecker:
    """One forward and K + 1 backward passes, K the rank of W_i."""
    sums: dict[str, list[Tensor]] = {}
    rest: Tensor | None = None
    for signs, captured in moment_captures(risk, middle):
        for names in captured.same_gradients():
            seconds = _gradient_factors(captured.factors[names[0]].gradients, signs)
            for name in names:
                _accumulate(sums, name, (*_input_factors(captured.factors[name]), *seconds))
        others = rest_moments(captured, signs)
        rest = others if rest is None else rest + others
    assert rest is not None  # a risk has at least one batch
    count = risk.num_examples
    means = {name: (part[1].flatten() / count)[None] for name, part in sums.items()}
    return Kronecker(
        risk.layout,
        {name: part[0] / count for name, part in sums.items()},
        {name: part[2] / count for name, part in sums.items()},
        {name: part[3] / count for name, part in sums.items()},
        placed(risk.layout, means, rest[2:] / count)[0],
        rest[:2] / count,
    )


def eigenbasis(risk: EmpiricalRisk, curvature: Curvature, generator: Generator) -> "Eigenbasis":
    """That of the factors of this curvature; computed once a risk, unless it is sampled."""

    def compute() -> Eigenbasis:
        factors = kronecker(risk, middle_of(risk, curvature, generator))
        inputs = risk.once("eigenvectors of inputs", lambda: _eigenpairs(factors.inputs))
        return Eigenbasis.of(factors, inputs=inputs)

    sampled = curvature == "sampled_fisher"
    return compute() if sampled else risk.once(("eigenbasis", curvature), compute)


def _eigenpairs(matrices: dict[str, Tensor]) -> Pairs:
    return {name: tuple(torch.linalg.eigh(matrix)) for name, matrix in matrices.items()}


def _accumulate(sums: dict[str, list[Tensor]], name: str, parts: tuple[Tensor, ...]) -> None:
    if name not in sums:
        sums[name] = [part.to(torch.float64, copy=True) for part in parts]
    else:
        for total, part in zip(sums[name], parts, strict=True):
            total += part


def _input_factors(factor: Factor) -> tuple[Tensor, Tensor]:
    """Sums over examples: A (mean over positions) and the gradient, the last cotangent's."""
    a, last = factor.inputs, factor.gradients[:, -1]
    if a.shape[2] == 1:  # all examples are the rows of one matrix
        a, last = a[:, :, 0], last[:, :, 0]
        return _symmetric(a, a), last.mT @ a
    return (a.mT @ a).sum(1) / a.shape[2], (last.mT @ a).sum(1)


def _gradient_factors(
    g: Float[Tensor, "L K B T C"], signs: Float[Tensor, "K B"]
) -> tuple[Tensor, Tensor]:
    """Sums over examples and positions: S of the curvature and of the gradient covariance."""
    curved, last = g[:, :-1], g[:, -1]
    if g.shape[3] > 1:  # one product an example: to bring all into one matrix would copy them
        products = (curved.mT @ curved) * signs[:-1, :, None, None].to(g)
        return products.sum((1, 2)), (last.mT @ last).sum(1)
    curved, last, weights = curved.flatten(1, 3), last[:, :, 0], signs[:-1].flatten().to(g)
    weighted = curved if bool((weights == 1).all()) else curved * weights[:, None]
    return _symmetric(weighted, curved), _symmetric(last, last)


def _symmetric(x: Float[Tensor, "L N D"], y: Float[Tensor, "L N D"]) -> Float[Tensor, "L D D"]:
    """xᵀ y that is known to be symmetric: large ones by blocks of the lower half."""
    size = x.shape[-1]
    parts = min(4, size // 128)
    if parts < 2:
        return x.mT @ y
    width, total = -(-size // parts), x.new_empty(len(x), size, size)
    for start in range(0, size, width):
        end = min(start + width, size)
        block = x[..., start:].mT @ y[..., start:end]
        total[:, start:, start:end] = block
        total[:, start:end, end:] = block[:, end - start :].mT
    return total


@dataclass(frozen=True)
class Eigenbasis:
    """The orthogonal basis in which every A ⊗ S of the curvature is diagonal."""

    layout: Layout
    inputs: dict[str, Float[Tensor, "L D D"]]  # eigenvectors as columns
    gradients: dict[str, Float[Tensor, "L C C"]]
    curvature: Float[Tensor, " P"]  # eigenvalues of the data's part, in coordinates' order
    covariance: Float[Tensor, " P"]  # diagonal of the covariance's factors in this basis
    gradient: Float[Tensor, " P"]  # mean gradient as a vector

    @classmethod
    def of(cls, factors: Kronecker, *, inputs: Pairs | None = None) -> "Eigenbasis":
        """Eigendecompositions of both factors; that of the inputs may be known."""
        inputs = _eigenpairs(factors.inputs) if inputs is None else inputs
        gradients = {name: torch.linalg.eigh(s) for name, s in factors.curvature.items()}
        parts: dict[str, Tensor] = {}
        for name, (a, _) in inputs.items():
            s, v = gradients[name]
            c = torch.einsum("lco,lcd,ldo->lo", v, factors.covariance[name], v)
            parts[name] = torch.stack([(x[:, :, None] * a[:, None]).flatten() for x in (s, c)])
        curvature, covariance = placed(factors.layout, parts, factors.rest)
        return cls(
            factors.layout,
            {name: vectors for name, (_, vectors) in inputs.items()},
            {name: vectors for name, (_, vectors) in gradients.items()},
            curvature,
            covariance,
            factors.gradient,
        )

    def modes(self, risk: EmpiricalRisk, *, centred: bool) -> Modes:
        """H and C both by their factors, with the risk's weight decay."""
        gradient, theta = self.coordinates(self.gradient), self.coordinates(risk.theta.double())
        parts = (self.curvature, self.covariance, gradient, theta)
        return Modes.decayed(risk, *parts, centred=centred)

    def inverse(self, v: Float[Tensor, "K P"], shift: float) -> Float[Tensor, "K P"]:
        """(H + shift)⁻¹ v with H by its factors, negative eigenvalues by their size."""
        return self.vectors(self.coordinates(v) / (self.curvature.abs() + shift).to(v))

    def coordinates(self, v: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch P"]:
        """Of vectors, in their dtype."""
        return self._turned(v, back=False)

    def vectors(self, coordinates: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch P"]:
        """The inverse of `coordinates`."""
        return self._turned(coordinates, back=True)

    def rotation(self, name: str, factor: Factor) -> Factor:
        """A parameter's factors in this basis."""
        a, g = factor.inputs, factor.gradients
        u, v = self.inputs[name].to(a), self.gradients[name].to(g)
        return Factor(torch.einsum("lbtd,lde->lbte", a, u), torch.einsum("lkbto,lop->lkbtp", g, v))

    def _turned(self, v: Tensor, *, back: bool) -> Tensor:
        parts = list(v.split(self.layout.sizes, dim=-1))
        for index, name in enumerate(self.layout.names):
            if name in self.inputs:
                u, s = self.inputs[name].to(v), self.gradients[name].to(v)
                u, s = (u.mT, s) if back else (u, s.mT)
                block = parts[index].unflatten(-1, (len(u), s.shape[-1], u.shape[-1]))
                parts[index] = (s @ block @ u).flatten(-3)
        return torch.cat(parts, dim=-1)
