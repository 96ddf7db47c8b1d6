"""What a net makes of mixtures of two examples, λ x_i + (1 − λ) x_j: its features of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.collapse.classes import Geometry
from gentheory.errors import InputError, check_at_least
from gentheory.examples import targets_of
from gentheory.features import feature_batches
from gentheory.risk import EmpiricalRisk


@dataclass(frozen=True)
class Mixtures:
    """Features of K mixtures, and of what they were made."""

    features: Float[Tensor, "K D"]
    shares: Float[Tensor, " K"]
    """λ, from U(0, 1): mixup with Beta(1, 1)."""
    first: Tensor
    """Row of the first example's class in the geometry, [K]."""
    second: Tensor


def mixtures(
    risk: EmpiricalRisk,
    place: str,
    geometry: Geometry,
    num_pairs: int,
    generator: Generator,
    *,
    same_class: bool,
) -> Mixtures:
    """Random pairs of two examples of one class, or of two classes; no example with itself.

    The first example is drawn from all (from the classes of two or more for pairs of one class),
    the second from those it may be mixed with. Takes the inputs of 2 `num_pairs` examples at most.
    Raises `InputError` naming `place` for inputs that cannot be mixed.
    """
    check_at_least(f"{place}.num_pairs", num_pairs, 2)
    targets = targets_of(risk).cpu()
    first, second = _pairs(targets, place, same_class, num_pairs, generator)
    shares = torch.rand(num_pairs, generator=generator, dtype=torch.float64)
    inputs = _mixed(risk, place, first, second, shares)
    rows = torch.zeros(geometry.num_classes, dtype=torch.int64)
    rows[list(geometry.classes)] = torch.arange(len(geometry.classes))
    mixed = risk.on(inputs, targets[first].to(risk.device))
    found = [b.features[geometry.layer].double() for b in feature_batches(mixed, [geometry.layer])]
    owners = (rows[targets[chosen]].to(risk.device) for chosen in (first, second))
    return Mixtures(torch.cat(found), shares.to(risk.device), *owners)


def _pairs(
    targets: Tensor, place: str, same_class: bool, num_pairs: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    counts = targets.bincount()
    able = (counts[targets] > 1).nonzero()[:, 0] if same_class else torch.arange(len(targets))
    if not len(able):
        raise InputError(
            place, "one example of each class", "two of some class", "measure on more of the data"
        )

    def drawn(sizes: Tensor) -> Tensor:
        return (torch.rand(num_pairs, generator=generator, dtype=torch.float64) * sizes).long()

    first = able[drawn(torch.tensor(len(able)))]
    order = targets.argsort(stable=True)
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order))
    own = targets[first]
    starts, sizes = counts.cumsum(0)[own] - counts[own], counts[own]
    if same_class:  # some steps on, around the class
        steps = 1 + drawn(sizes - 1)
        return first, order[starts + (position[first] - starts + steps) % sizes]
    steps = drawn(len(order) - sizes)  # around all, from behind the class
    return first, order[(starts + sizes + steps) % len(order)]


def _mixed(
    risk: EmpiricalRisk, place: str, first: Tensor, second: Tensor, shares: Float[Tensor, " K"]
) -> Tensor:
    wanted, where = torch.cat([first, second]).unique(return_inverse=True)
    kept: list[Tensor] = []
    start = 0
    for inputs, _ in risk.batches():
        if not inputs.is_floating_point():
            raise InputError(
                place, f"inputs of {inputs.dtype}", "real numbers", "use another measure"
            )
        here = wanted[(wanted >= start) & (wanted < start + len(inputs))] - start
        kept.append(inputs[here.to(inputs.device)])
        start += len(inputs)
    examples = torch.cat(kept)
    weights = shares.to(examples).reshape(-1, *[1] * (examples.dim() - 1))
    one, other = (examples[part.to(examples.device)] for part in where.chunk(2))
    return weights * one + (1 - weights) * other


def segment_residuals(found: Mixtures, geometry: Geometry) -> Float[Tensor, " K"]:
    """‖h − (λ μ_a + (1 − λ) μ_b)‖ / ‖μ_a − μ_b‖: 0 on the segment between the class means."""
    one, other = geometry.means[found.first], geometry.means[found.second]
    shares = found.shares[:, None]
    apart = found.features - (shares * one + (1 - shares) * other)
    return apart.norm(dim=1) / (one - other).norm(dim=1)


def shares_in_plane(
    found: Mixtures, geometry: Geometry, weight: Float[Tensor, "C D"]
) -> Float[Tensor, " K"]:
    """Share of |h − μ_G|² in the plane of w_a and w_b, the classifier rows of the two classes."""
    planes = torch.stack([weight[found.first], weight[found.second]], dim=2)
    basis = torch.linalg.qr(planes).Q
    centred = found.features - geometry.means.mean(0)
    inside = (basis.mT @ centred[:, :, None]).square().sum((1, 2))
    return inside / centred.square().sum(1)


def by_share(
    values: Float[Tensor, " K"], shares: Float[Tensor, " K"], bins: int = 10
) -> list[float]:
    """Mean of the values in equal bins of λ; nan where none falls."""
    numbers = (shares * bins).long().clamp(max=bins - 1)
    sums, counts = (values.new_zeros(bins) for _ in range(2))
    sums.index_add_(0, numbers, values)
    counts.index_add_(0, numbers, torch.ones_like(values))
    return (sums / counts).tolist()
