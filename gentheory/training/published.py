"""The optimizers by name, with the settings that are theirs alone. Needs no torch."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

Name: TypeAlias = Literal["sgd", "rmsprop", "adam", "adamw", "sam", "asam", "saf", "fad"]

BY_SGD: tuple[Name, ...] = ("sgd", "sam", "asam", "saf", "fad")
"""Those that step by the rule of SGD."""

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
"""What each needs of every model beside learning rate, momentum and weight decay, and what it is
unless given: the papers' values, those of `torch.optim` for the first four. FAD's are those of
SAM and the middle of its two regularizers."""
