"""Networks of infinite width: their kernels, and what becomes of these with depth."""

from gentheory.infinite_width.activations import Activation, erf, hermite, relu
from gentheory.infinite_width.depth import DeepKernel, DeepLimit, deep_kernel, deep_limit, vote
from gentheory.infinite_width.kernels import Kernels, kernels

__all__ = [
    "Activation",
    "DeepKernel",
    "DeepLimit",
    "Kernels",
    "deep_kernel",
    "deep_limit",
    "erf",
    "hermite",
    "kernels",
    "relu",
    "vote",
]
