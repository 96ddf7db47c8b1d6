"""All comparisons, in the order of the table."""

from benchmarks import (
    battery,
    collapse,
    density,
    eigenpairs,
    ggn_diagonal,
    gradient_norms,
    kernel,
    kronecker,
    learning_coefficient,
    noise_scale,
    plane,
    products,
    tic,
    trace,
    training,
)
from benchmarks.contest import Comparison

COMPARISONS: list[Comparison] = [
    *products.COMPARISONS,
    *eigenpairs.COMPARISONS,
    *density.COMPARISONS,
    *trace.COMPARISONS,
    *gradient_norms.COMPARISONS,
    *ggn_diagonal.COMPARISONS,
    *kronecker.COMPARISONS,
    *kernel.COMPARISONS,
    *tic.COMPARISONS,
    *learning_coefficient.COMPARISONS,
    *noise_scale.COMPARISONS,
    *plane.COMPARISONS,
    *collapse.COMPARISONS,
    *battery.COMPARISONS,
    *training.COMPARISONS,
]
