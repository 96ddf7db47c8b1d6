"""Random probe vectors with identity covariance."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.linalg.operator import LinearOperator


def rademacher(count: int, like: LinearOperator, generator: Generator) -> Float[Tensor, "K P"]:
    """Entries ±1. Drawn where the generator lives, so that CPU and CUDA probes can agree."""
    signs = torch.randint(2, (count, like.size), generator=generator, device=generator.device)
    return signs.mul_(2).sub_(1).to(like.device, like.dtype)


def gaussian(count: int, like: LinearOperator, generator: Generator) -> Float[Tensor, "K P"]:
    """Standard normal entries."""
    shape = (count, like.size)
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
    return drawn.to(like.device, like.dtype)
