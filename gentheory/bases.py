"""Dense curvature and covariance of a risk and their eigenbases, by the engine that is faster."""

from collections.abc import Sequence

from torch import Generator

from gentheory.curvature.moments import dense_moments
from gentheory.factors.layered import layered_moments, layers_of
from gentheory.middles import Curvature
from gentheory.modes import Eigenbasis, Moments
from gentheory.risk import EmpiricalRisk

_KEPT = 2000
"""Parameters up to which the matrices are kept, 2 P² numbers, for the blocks to be cut out."""


def eigenbases(
    risk: EmpiricalRisk,
    curvature: Curvature,
    generator: Generator,
    *,
    blocks: Sequence[slice] | None = None,
) -> list[Eigenbasis]:
    """Of each block, or of the whole. Computed once a risk, unless targets are drawn for it."""

    def compute() -> list[Eigenbasis]:
        return [Eigenbasis.of(part) for part in _moments(risk, curvature, generator, blocks)]

    if curvature == "sampled_fisher":
        return compute()
    key = ("eigenbases", curvature, tuple((b.start, b.stop) for b in blocks or ()))
    return risk.once(key, compute)


def _moments(
    risk: EmpiricalRisk,
    curvature: Curvature,
    generator: Generator,
    blocks: Sequence[slice] | None,
) -> list[Moments]:
    if curvature == "sampled_fisher" or risk.num_params > _KEPT:
        return _computed(risk, curvature, generator, blocks)
    (whole,) = risk.once(
        ("moments", curvature), lambda: _computed(risk, curvature, generator, None)
    )
    return [whole] if blocks is None else [whole.part(block) for block in blocks]


def _computed(
    risk: EmpiricalRisk,
    curvature: Curvature,
    generator: Generator,
    blocks: Sequence[slice] | None,
) -> list[Moments]:
    """By layers where each has one position, by Jacobians otherwise."""
    layers = layers_of(risk)
    if layers is None:
        return dense_moments(risk, curvature, generator, blocks=blocks)
    return layered_moments(risk, layers, curvature, generator, blocks=blocks)
