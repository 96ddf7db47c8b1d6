"""Per-layer statistics of per-example gradients, without Jacobians."""

from gentheory.factors.ghost import example_grams, gradient_norms

__all__ = ["example_grams", "gradient_norms"]
