"""NNGP and neural tangent kernels of infinitely wide multilayer perceptrons.

In the NTK parametrization, h = σ_w / √fan_in · W φ(·) + σ_b b with W and b from N(0, 1) and all of
them trained at one learning rate (Jacot et al. 2018; Lee et al. 2018 for the NNGP). The NNGP is
that of the standard parametrization with weights of variance σ_w² / fan_in too; the tangent kernel
there grows with the width and has no limit.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from gentheory.errors import InputError
from gentheory.infinite_width.activations import Activation


@dataclass(frozen=True)
class Kernels:
    """Of each output; different outputs are independent."""

    nngp: Float[Tensor, "N n"]
    """Covariance of the outputs at initialization."""
    ntk: Float[Tensor, "N n"]
    """Limit of ⟨∂f(x)/∂θ, ∂f(x')/∂θ⟩."""


def kernels(
    inputs: Float[Tensor, "N D"],
    other: Float[Tensor, "n D"] | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
) -> Kernels:
    """Of a net of `depth` linear layers, among the inputs or between them and `other`; float64.

    Σ¹ = Θ¹ = σ_w² x·x' / D + σ_b²,  Σˡ⁺¹ = σ_w² E[φφ'] + σ_b²,  Θˡ⁺¹ = Σˡ⁺¹ + σ_w² Θˡ E[φ̇φ̇'],
    expectations over normals of covariance Σˡ. `models.mlp(parametrization="ntk")` is a net of
    weight_variance 1 and bias_variance 0.01. Raises `InputError` for a depth below 1 and for
    negative variances.

    >>> import torch
    >>> from gentheory.infinite_width.activations import relu
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> kernels(x, depth=1, activation=relu).ntk.tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    if depth < 1:
        raise InputError("depth", str(depth), "at least 1", "give the number of linear layers")
    if not weight_variance > 0 or not bias_variance >= 0:
        raise InputError(
            "variances",
            f"{weight_variance} of weights and {bias_variance} of biases",
            "above 0 and at least 0",
            "correct them",
        )

    def affine(kernel: Tensor) -> Tensor:
        return weight_variance * kernel + bias_variance

    x = inputs.double()
    y = x if other is None else other.double()
    p, q = (affine(z.square().mean(1)) for z in (x, y))
    p, q = p[:, None], q[None]
    nngp = affine(x @ y.T / x.shape[1])
    ntk = nngp
    for _ in range(depth - 1):
        mean, slope = activation.dual(p, q, nngp)
        p, q = (affine(activation.dual(v, v, v)[0]) for v in (p, q))
        nngp = affine(mean)
        ntk = nngp + weight_variance * ntk * slope
    return Kernels(nngp, ntk)
