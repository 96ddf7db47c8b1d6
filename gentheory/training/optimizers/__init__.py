"""Optimizers as pure functions on a stack [M, P], each model with its own hyper-parameters.

An optimizer is a rule, what a step makes of a gradient, and a search, where that gradient is
taken. SAM, ASAM, FAD and SAF step by the rule of SGD; SAF searches nowhere but adds a loss.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from gentheory.params import Layout
from gentheory.training.optimizers.rules import SGD, Adam, RMSprop, Rule
from gentheory.training.optimizers.searches import ASAM, FAD, SAM, Search

Name: TypeAlias = Literal["sgd", "rmsprop", "adam", "adamw", "sam", "asam", "saf", "fad"]

PUBLISHED: Mapping[Name, Mapping[str, float]] = {
    "sgd": {},
    "rmsprop": {"beta2": 0.99, "epsilon": 1e-8},
    "adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "adamw": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "sam": {"rho": 0.05},
    "asam": {"rho": 0.5, "eta": 0.01},
    "saf": {"saf_weight": 0.3, "saf_temperature": 5.0},
    "fad": {"rho": 0.05, "fad_alpha": 0.5, "fad_beta": 1.0},
}
"""What each optimizer needs beside learning rate, momentum and weight decay, and what it is unless
given: the papers' values, those of `torch.optim` for the first four, and of FAD a middle."""


def values(name: Name, own: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
    """The optimizer's own hyper-parameters [M, 1] for a stack `like` [M, P]."""
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
    return SGD(momentum, weight_decay, nesterov)


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
