"""Optimizers as pure functions on a stack [M, P], each model with its own hyper-parameters.

An optimizer is a rule, what a step makes of a gradient, and a search, where that gradient is
taken. SAM, ASAM, FAD and SAF step by the rule of SGD; SAF searches nowhere but adds a loss.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from gentheory.params import Layout
from gentheory.training.optimizers.rules import SGD, Adam, RMSprop, Rule
from gentheory.training.optimizers.searches import ASAM, FAD, SAM, Search
from gentheory.training.published import PUBLISHED, Name


def values(name: Name, own: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
    """The optimizer's own hyper-parameters [M, 1] for a stack `like` [M, P].

    The published value where `own` has none.
    """
    count = len(like)
    return {
        key: own.get(key, torch.full((count,), default, dtype=torch.float64)).to(like)[:, None]
        for key, default in PUBLISHED[name].items()
    }


def rule(
    name: Name,
    own: Mapping[str, Tensor],
    *,
    momentum: Tensor,
    weight_decay: Tensor,
    nesterov: bool = False,
) -> Rule:
    """The rule by which this optimizer steps; `own` are its `values`."""
    if name in ("adam", "adamw"):
        betas = (own["beta1"], own["beta2"], own["epsilon"])
        return Adam(*betas, weight_decay, decoupled=name == "adamw")
    if name == "rmsprop":
        return RMSprop(momentum, weight_decay, own["beta2"], own["epsilon"])
    return SGD(momentum, weight_decay, nesterov, decays=bool(weight_decay.any()))


def search(name: Name, own: Mapping[str, Tensor], layout: Layout) -> Search | None:
    """Where this optimizer takes its gradients; None for where the parameters are."""
    if name == "sam":
        return SAM(own["rho"])
    if name == "asam":
        return ASAM(own["rho"], own["eta"], _weights(layout).to(own["rho"].device))
    if name == "fad":
        return FAD(own["rho"], own["fad_alpha"], own["fad_beta"])
    return None


def _weights(layout: Layout) -> Tensor:
    """Which numbers of the vector belong to tensors with "weight" in their names, [1, P]."""
    marks = [
        torch.full((1, size), "weight" in name)
        for name, size in zip(layout.names, layout.sizes, strict=True)
    ]
    return torch.cat(marks, dim=1)
