"""Activations φ with their duals, E[φ(u) φ(v)] and E[φ'(u) φ'(v)] for jointly normal u and v.

The dual activation of Daniely et al. 2016 (arXiv 1602.05897), for any variances.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.errors import InputError

Dual = Callable[
    [Float[Tensor, "*#n"], Float[Tensor, "*#n"], Float[Tensor, "*n"]],
    tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]],
]


@dataclass(frozen=True)
class Activation:
    """φ, element by element, and its dual."""

    name: str
    function: Callable[[Tensor], Tensor]
    dual: Dual
    """(p, q, k) ↦ E φ(u)φ(v), E φ'(u)φ'(v) for u, v of variances p, q and covariance k."""


def correlation(p: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """k / √(p q), within ±1; 0 where a variance is 0, exactly ±1 where it is so to rounding."""
    scale = (p * q).sqrt()
    c = torch.where(scale > 0, k / scale, 0.0)
    near = c.abs() > 1 - 8 * torch.finfo(c.dtype).eps
    return torch.where(near, c.sign(), c)


def _relu_dual(p: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The arc-cosine kernels of order 1 and 0, halved (Cho & Saul 2009)."""
    c = correlation(p, q, k)
    angle = torch.acos(c)
    away = math.pi - angle
    sine = (1 - c.square()).clamp(min=0).sqrt()
    return (p * q).sqrt() * (sine + away * c) / (2 * math.pi), away / (2 * math.pi)


def _erf_dual(p: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Williams 1997."""
    product = (1 + 2 * p) * (1 + 2 * q)
    return (
        2 / math.pi * torch.asin(2 * k / product.sqrt()),
        4 / math.pi / (product - 4 * k.square()).sqrt(),
    )


relu: Activation = Activation("relu", torch.relu, _relu_dual)
erf: Activation = Activation("erf", torch.erf, _erf_dual)


def hermite(coefficients: Sequence[float]) -> Activation:
    """φ = Σ_i a_i h_i, h_i = He_i / √i! the normalized (probabilists') Hermite polynomials.

    E h_i(u) h_j(u) = 1 if i = j else 0 for a standard normal u: with Σ a_i² = 1 the variance of a
    standard normal is kept, and the dual is Σ a_i² c^i. Raises `InputError` without coefficients.
    """
    if not coefficients or not np.isfinite(coefficients).all() or not np.any(coefficients):
        raise InputError(
            "hermite", f"coefficients {list(coefficients)}", "finite ones, not all 0", "correct it"
        )
    size = len(coefficients)
    norms = np.sqrt([math.factorial(i) for i in range(size)])
    series = np.polynomial.HermiteE(np.asarray(coefficients) / norms)
    slope = series.deriv()
    nodes, weights = np.polynomial.hermite_e.hermegauss(size)
    basis = np.polynomial.hermite_e.hermevander(nodes, size - 1) / norms
    basis = basis * weights[:, None] / weights.sum()

    def scaled(of: np.polynomial.HermiteE, p: Tensor) -> Float[Tensor, "*shape size"]:
        """E f(√p u) h_j(u): exact by quadrature, f being a polynomial of degree below J."""
        x = p.sqrt()[..., None] * torch.as_tensor(nodes).to(p)
        return _value(of, x) @ torch.as_tensor(basis).to(p)

    def dual(p: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_j f_j(p) f_j(q) c^j, f_j the coefficients of f(√p ·)."""
        c = correlation(p, q, k)
        powers = c[..., None] ** torch.arange(size, device=c.device)
        mean, derivative = (
            (scaled(of, p) * scaled(of, q) * powers).sum(-1) for of in (series, slope)
        )
        return mean, derivative

    label = ", ".join(f"{a:g}" for a in coefficients)
    return Activation(f"hermite({label})", lambda x: _value(series, x), dual)


def _value(series: np.polynomial.HermiteE, x: Tensor) -> Tensor:
    """Σ c_i He_i(x) by He_{i+1} = x He_i − i He_{i−1}; differentiable."""
    before, now = torch.zeros_like(x), torch.ones_like(x)
    total = torch.zeros_like(x)
    for i, coefficient in enumerate(series.coef.tolist()):
        total = total + coefficient * now
        before, now = now, x * now - i * before
    return total
