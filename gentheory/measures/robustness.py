"""How the net fares on inputs that are moved on purpose."""

import math

from torch import Generator

from gentheory.attack import Ball, Norm, starts, survivors
from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError, check_at_least, check_positive
from gentheory.estimate import Estimate
from gentheory.examples import some_of
from gentheory.predictions import check_classes
from gentheory.representation.vectors import check_real

__all__ = ["pgd_accuracy"]


def pgd_accuracy(
    checkpoint: Checkpoint,
    *,
    radius: float = 0.1,
    norm: Norm = "linf",
    num_steps: int = 20,
    restarts: int = 1,
    max_examples: int = 1000,
    generator: Generator,
) -> Estimate:
    """Share of examples that stay right within |δ| ≤ radius, under projected gradient ascent.

    An upper bound of the robust accuracy: right at every point that the ascent on
    max over k ≠ y of z_k − z_y visits, from the example itself and, with `restarts` above 1, from
    random points. `radius` is in units of the inputs as the net sees them, after standardization;
    there is no range of valid inputs. The accuracy without the attack is in `stats`. `stderr` is
    binomial, of (k + 2)/(n + 4) so that all right or all wrong is not taken for certain; it covers
    the draw of the examples. Refused without classes, and for inputs that are indices.

    Cost: `num_steps` + 1 forward and backward passes for each start.
    Source: Madry et al. 2018 (arXiv 1706.06083).
    """
    place = "robustness.pgd_accuracy"
    _check(place, radius, norm, num_steps, restarts)
    check_classes(place, checkpoint.risk)
    part = some_of(checkpoint.risk, max_examples, generator, place=place)
    example = next(part.batches())[0][0]
    check_real(example, place)
    ball = Ball(norm, radius)
    begin = starts(restarts, example.numel(), ball, generator)
    right, clean = survivors(part, ball, begin.to(part.device), num_steps)
    n, k = len(right), int(right.sum())
    share = (k + 2) / (n + 4)
    return Estimate(
        k / n,
        math.sqrt(share * (1 - share) / (n + 4)),
        stats={"accuracy": float(clean.double().mean()), "num_examples": n},
    )


def _check(place: str, radius: float, norm: str, num_steps: int, restarts: int) -> None:
    if norm not in ("linf", "l2"):
        raise InputError(f"{place}.norm", repr(norm), "'linf' or 'l2'", "choose one")
    check_positive(f"{place}.radius", radius)
    check_at_least(f"{place}.num_steps", num_steps, 1)
    check_at_least(f"{place}.restarts", restarts, 1)
