"""Which labels look wrong: areas under the margin, held against examples of a class that is none.

Area under the margin (Pleiss et al. 2020, arXiv 2001.10528): the mean over training of
z_y − max over k ≠ y of z_k, as each step finds it on its batch.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from gentheory.errors import InputError
from gentheory.trajectory import Trajectory

_PLACE = "area under the margin"


def areas(trajectory: Trajectory | None, *, windows: int | None = None) -> Float[Tensor, " N"]:
    """Mean margin of each example over the first `windows` of its training, or all; in float64.

    Weighted by the time of the windows. The paper ends before the learning rate first drops, so as
    not to count steps on which labels are memorized. Raises `InputError` where training kept no
    margins, or has no such windows.
    """
    if trajectory is None or trajectory.margins is None:
        raise InputError(
            _PLACE,
            "no margins from training",
            "a checkpoint whose training kept its trajectory, of a net with an output for a class",
            "train with keep_trajectory",
        )
    reached = trajectory.windows()
    if not 1 <= (count := len(reached) if windows is None else windows) <= len(reached):
        raise InputError(
            f"{_PLACE}, windows", str(windows), f"1 to {len(reached)}", "choose fewer or train"
        )
    time = torch.stack([window.time for window in reached[:count]]).double()
    return (time / time.sum()) @ trajectory.margins[:count].double()


def with_fake_class(
    targets: Int[Tensor, " N"], num_classes: int, *, generator: Generator
) -> tuple[Int[Tensor, " N"], Bool[Tensor, " N"]]:
    """Targets of which N / (C + 1) random ones have the class C, and which those are.

    As many as a class of its own would have. A net with C + 1 outputs is to be trained on them;
    a second one with other such examples, for the areas of the first ones.
    """
    count = round(len(targets) / (num_classes + 1))
    if count < 1:
        cure = "take more examples"
        raise InputError(_PLACE, f"{len(targets)} examples", f"{num_classes + 1} or more", cure)
    order = torch.randperm(len(targets), generator=generator, device=generator.device)
    fake = torch.zeros(len(targets), dtype=torch.bool, device=targets.device)
    fake[order[:count].to(targets.device)] = True
    return torch.where(fake, num_classes, targets), fake


def threshold(
    areas: Float[Tensor, " N"], fake: Bool[Tensor, " N"], *, share: float = 0.99
) -> float:
    """The 99th percentile of the areas of the fake class, below which a label looks wrong."""
    if not bool(fake.any()):
        raise InputError(_PLACE, "no example of the fake class", "one or more", "mark some")
    return float(areas[fake].double().quantile(share))


def suspects(
    areas: Float[Tensor, " N"], fake: Bool[Tensor, " N"], *, share: float = 0.99
) -> Bool[Tensor, " N"]:
    """The examples, those of the fake class left out, whose area does not exceed `threshold`."""
    return (areas <= threshold(areas, fake, share=share)) & ~fake
