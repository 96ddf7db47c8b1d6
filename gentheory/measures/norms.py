"""Norms of the parameters and of the way they went (Jiang et al. 2020; Nagarajan & Kolter 2019)."""

from torch import Generator

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.estimate import Estimate

__all__ = ["distance", "parameters"]


def parameters(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """|θ|₂ over the trainable parameters, biases included, tied ones once. Exact.

    Cost: P operations.
    Source: Jiang et al. 2020 (arXiv 1912.02178).
    """
    return Estimate(checkpoint.risk.theta.double().norm().item())


def distance(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """|θ − θ₀|₂, the distance from the initialization. Exact.

    Refused where the checkpoint does not hold its initial parameters.

    Cost: P operations.
    Source: Nagarajan & Kolter 2019 (arXiv 1901.01672).
    """
    if checkpoint.initial is None:
        raise InputError(
            "norms.distance",
            "no initial parameters",
            "a checkpoint that holds them",
            "hand in Checkpoint(risk, initial=gentheory.params.flatten(untrained_model))",
        )
    theta, initial = checkpoint.risk.theta.double(), checkpoint.initial.double()
    return Estimate((theta - initial).norm().item(), stats={"initial_norm": initial.norm().item()})
