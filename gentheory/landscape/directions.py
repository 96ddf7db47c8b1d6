"""Directions in the space of the parameters, along which a loss is looked at: [K, P] rows.

A direction of length 1 in its own units leads from θ to θ + d: for a normalized one that is as far
as the weights are large, for a unit vector a Euclidean distance, for the way to other parameters
the whole of it.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.ascent import loss_and_slope
from gentheory.curvature import hessian
from gentheory.errors import InputError, check_at_least
from gentheory.linalg import Eigenpairs, largest, smallest
from gentheory.risk import EmpiricalRisk

Vectors = Literal["zero", "normalize"]
"""Of parameters with one axis or none, such as biases and scales: left where they are, or not."""


@dataclass(frozen=True)
class Principal:
    """The plane through a centre that a path keeps closest to."""

    directions: Float[Tensor, "2 P"]
    """Unit rows, orthogonal, the one with the longer way first."""
    coordinates: Float[Tensor, "S 2"]
    """Of each point of the path; float64."""
    shares: Float[Tensor, " 2"]
    """Of the squared distances from the centre that lie along each; float64."""


def random(risk: EmpiricalRisk, count: int = 1, *, generator: Generator) -> Float[Tensor, "K P"]:
    """Independent standard normal numbers. Raises `InputError` for less than one direction."""
    check_at_least("directions.count", count, 1)

    def drawn() -> Float[Tensor, " P"]:
        return torch.randn(
            risk.num_params, generator=generator, device=generator.device, dtype=torch.float64
        )

    return torch.stack([drawn().to(risk.theta) for _ in range(count)])


def filter_normalized(
    risk: EmpiricalRisk, directions: Float[Tensor, "K P"], *, vectors: Vectors = "zero"
) -> Float[Tensor, "K P"]:
    """Each row of each tensor as long as that of the weights: d_j ‖w_j‖ / ‖d_j‖.

    A row is what lies at one index of a tensor's first axis: the filter of a convolution, the
    neuron of a linear layer. With `vectors="zero"` parameters of one axis or none do not move, as
    in the paper; with "normalize" each number of theirs is a row, and moves by its own size up or
    down. Rows of zeros stay zeros. Rescaling a layer by c and the next one by 1/c, where that
    leaves the net the same, leaves the loss along the direction the same.

    Source: Li, Xu, Taylor, Studer & Goldstein 2018 (arXiv 1712.09913).
    """
    return _normalized(risk, directions, vectors, axes=1)


def layer_normalized(
    risk: EmpiricalRisk, directions: Float[Tensor, "K P"], *, vectors: Vectors = "zero"
) -> Float[Tensor, "K P"]:
    """Each tensor as long as that of the weights, d ‖w‖ / ‖d‖; else as `filter_normalized`.

    With `vectors="normalize"` a parameter of one axis is a tensor like the others.
    """
    return _normalized(risk, directions, vectors, axes=0)


def unit(directions: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
    """Each of Euclidean length 1; a direction of zeros stays one."""
    return (directions.double() * _ratio(1.0, directions.double().norm(dim=1, keepdim=True))).to(
        directions
    )


def orthogonal(directions: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
    """Each without its part along those before it, as long as it was (Gram-Schmidt).

    Raises `InputError` where one is a combination of those before it.
    """
    rows: list[Tensor] = []
    for index, row in enumerate(directions.double()):
        rest = row.clone()
        for _ in range(2):  # the second time for what rounding left
            for earlier in rows:
                rest -= (rest @ earlier) / (earlier @ earlier) * earlier
        if not rest.norm() > torch.finfo(directions.dtype).eps ** 0.5 * row.norm():
            raise InputError(
                f"directions, row {index}",
                "a combination of the rows before it",
                "linearly independent directions",
                "choose another one",
            )
        rows.append(rest * row.norm() / rest.norm())
    return torch.stack(rows).to(directions)


def gradient(risk: EmpiricalRisk) -> Float[Tensor, "1 P"]:
    """The unit vector along which the data's loss rises most, weight decay left out.

    Raises `InputError` where the gradient is zero.
    """
    slope = loss_and_slope(risk)[1]
    if not bool(slope.any()):
        raise InputError(
            "directions.gradient", "a gradient of zeros", "one that points somewhere", "use another"
        )
    return (slope / slope.norm()).to(risk.theta)[None]


def eigenvectors(
    risk: EmpiricalRisk,
    count: int,
    *,
    end: Literal["largest", "smallest"] = "largest",
    rtol: float = 1e-4,
    max_steps: int = 300,
    generator: Generator,
) -> Eigenpairs:
    """Of the data's Hessian at θ, weight decay left out, by Lanczos as `linalg.largest`.

    `vectors` are the directions: along one of them the loss has the curvature in `values`, to
    within `residuals`. Their signs are such that the loss does not fall along them to first order.
    """
    search = {"largest": largest, "smallest": smallest}[end]
    operator = hessian(risk.at(risk.theta, weight_decay=0.0))
    found = search(operator, count, rtol=rtol, max_steps=max_steps, generator=generator)
    slopes = found.vectors.double() @ loss_and_slope(risk)[1]
    found.vectors[slopes < 0] *= -1
    return found


def towards(risk: EmpiricalRisk, other: Float[Tensor, " P"]) -> Float[Tensor, "1 P"]:
    """The way from θ to other parameters, which lie at distance 1."""
    risk.layout.unflatten(other)
    return (other.to(risk.theta) - risk.theta)[None]


def principal(
    thetas: Float[Tensor, "S P"], *, centre: Float[Tensor, " P"] | None = None
) -> Principal:
    """The first two principal components of θ_s − centre, by its singular values in float64.

    The centre, which the plane goes through, is the last point unless given; the mean is not
    subtracted. Each direction points to where the path began. Raises `InputError` for a path
    that does not span a plane.

    Source: Li, Xu, Taylor, Studer & Goldstein 2018, whose code subtracts the mean.
    """
    away = thetas.double() - (thetas[-1] if centre is None else centre.to(thetas)).double()
    left, values, right = torch.linalg.svd(away, full_matrices=False)
    if len(values) < 2 or not values[1] > torch.finfo(thetas.dtype).eps * values[0]:
        raise InputError(
            "directions.principal",
            f"{len(thetas)} points on one line through the centre",
            "points that span a plane",
            "keep more points of the path, or draw a line with directions.towards",
        )
    coordinates = left[:, :2] * values[:2]
    first = coordinates.abs().gt(values[:2] * 1e-6).int().argmax(0)
    signs = coordinates.gather(0, first[None])[0].sign()
    shares = values[:2].square() / values.square().sum()
    return Principal((right[:2] * signs[:, None]).to(thetas), coordinates * signs, shares)


def coordinates(
    thetas: Float[Tensor, "S P"],
    directions: Float[Tensor, "K P"],
    *,
    centre: Float[Tensor, " P"],
) -> Float[Tensor, "S K"]:
    """Where each of the points lies along the directions, seen from the centre; float64.

    That of the nearest point of the plane that they span, whether or not they are orthogonal.
    """
    away = (thetas.to(centre).double() - centre.double()).mT
    return torch.linalg.lstsq(directions.to(centre).double().mT, away).solution.mT


def _normalized(
    risk: EmpiricalRisk, directions: Float[Tensor, "K P"], vectors: Vectors, axes: int
) -> Float[Tensor, "K P"]:
    """With one length for each index of the first so many axes of a tensor."""
    if vectors not in ("zero", "normalize"):
        raise InputError("vectors", repr(vectors), "'zero' or 'normalize'", "choose one")
    weights = risk.layout.unflatten(risk.theta.double())
    made: dict[str, Tensor] = {}
    for name, part in risk.layout.unflatten(directions.to(risk.theta).double()).items():
        if part.dim() <= 2 and vectors == "zero":
            made[name] = torch.zeros_like(part)
            continue
        lengths, own = _lengths(part, axes + 1), _lengths(weights[name][None], axes + 1)
        made[name] = part * _ratio(own, lengths)
    return risk.layout.flatten(made).to(risk.theta)


def _lengths(tensor: Tensor, kept: int) -> Tensor:
    """Norms over all axes but the first so many, with those as axes of length 1."""
    shape = tensor.shape[:kept]
    norms = tensor.reshape(*shape, -1).norm(dim=-1)
    return norms.reshape(*shape, *[1] * (tensor.dim() - len(shape)))


def _ratio(above: Tensor | float, below: Tensor) -> Tensor:
    """0 where there is nothing to scale."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)
