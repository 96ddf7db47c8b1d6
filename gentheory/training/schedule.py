"""Learning-rate schedules: what they make of the learning rate at each of all steps."""

import math
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Schedule: TypeAlias = Literal["constant", "cosine", "step", "linear"]


def factors(
    schedule: Schedule,
    total: int,
    *,
    warm_up: int = 0,
    step_factor: float = 0.1,
    step_shares: tuple[float, ...] = (),
) -> Float[Tensor, " T"]:
    """The factor of each of `total` steps, in float64.

    Over the first `warm_up` steps t = 1, 2, … it is t / warm_up, so that the last of them is
    whole; the schedule goes over the other steps. With s in [0, 1) their share that is done:
    "cosine" is (1 + cos πs) / 2 (Loshchilov and Hutter 2017), "linear" 1 − s, "step" as many
    factors of `step_factor` as `step_shares` are at most s.
    """
    rising = torch.arange(1, warm_up + 1, dtype=torch.float64) / max(warm_up, 1)
    count = total - warm_up
    done = torch.arange(count, dtype=torch.float64) / max(count, 1)
    if schedule == "cosine":
        falling = 0.5 * (1 + torch.cos(math.pi * done))
    elif schedule == "linear":
        falling = 1 - done
    elif schedule == "step":
        # Compared in whole steps: 0.3 of ten steps are three, whatever 0.3 is in binary.
        ends = torch.tensor([round(share * count) for share in step_shares])
        passed = (torch.arange(count)[:, None] >= ends).sum(1)
        falling = torch.tensor(step_factor, dtype=torch.float64) ** passed
    else:
        falling = torch.ones(count, dtype=torch.float64)
    return torch.cat([rising, falling])
