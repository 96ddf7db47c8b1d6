"""A symmetric linear operator: a product, a size, a dtype and a device."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator as ScipyOperator
from torch import Tensor

from gentheory.errors import InputError

_PROBED = 8
"""Vectors between which symmetry is checked."""


@dataclass(frozen=True)
class LinearOperator:
    """v ↦ A v for vectors [..., P]. `block` takes and returns [K, P]."""

    block: Callable[[Float[Tensor, "K P"]], Float[Tensor, "K P"]]
    size: int
    dtype: torch.dtype
    device: torch.device

    def __call__(self, v: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch P"]:
        """A v along the last axis; v must have the operator's size, dtype and device."""
        if v.shape[-1] != self.size or v.dtype != self.dtype:
            raise InputError(
                "vector",
                f"{v.shape[-1]} numbers of {v.dtype}",
                f"{self.size} of {self.dtype}",
                "convert it with v.to(operator.dtype)",
            )
        return self.block(v.reshape(-1, self.size)).reshape(v.shape)

    def dense(self, *, block_size: int = 256) -> Float[Tensor, "P P"]:
        """The matrix, by P products in blocks. Takes P² numbers."""
        eye = torch.eye(self.size, dtype=self.dtype, device=self.device)
        return torch.cat([self.block(part) for part in eye.split(block_size)]).T

    def diagonal(self, *, block_size: int = 256) -> Float[Tensor, " P"]:
        """The exact diagonal, by P products in blocks, without storing the matrix."""
        parts: list[Tensor] = []
        for start in range(0, self.size, block_size):
            index = torch.arange(start, min(start + block_size, self.size), device=self.device)
            rows = torch.zeros(len(index), self.size, dtype=self.dtype, device=self.device)
            rows[index - start, index] = 1
            parts.append(self.block(rows)[index - start, index])
        return torch.cat(parts)

    def to_scipy(self) -> ScipyOperator:
        """For `scipy.sparse.linalg`: `eigsh`, `lobpcg`, `cg` and their like."""
        return _Scipy(self)


def check_products(place: str, v: Float[Tensor, "K P"], product: Float[Tensor, "K P"]) -> None:
    """A v must be finite, and v_iᵀA v_j the same as v_jᵀA v_i: a probe that costs no product.

    Looks at the first few pairs of vectors. Raises `FloatingPointError` and `InputError`.
    """
    if not bool(product.isfinite().all()):
        raise FloatingPointError(f"{place}: a product with the operator is not finite")
    dtype, v, product = v.dtype, v[:_PROBED].double(), product[:_PROBED].double()
    inner = v @ product.T
    # Random vectors meet with |v_i| |A v_j| / √P; that, not the sum over i, is the scale.
    size = v.norm(dim=1).max() * product.norm(dim=1).max() / v.shape[1] ** 0.5
    check_symmetric(place, inner - inner.T, size, dtype)


def check_symmetric(place: str, apart: Tensor, size: Tensor, dtype: torch.dtype) -> None:
    """Raise `InputError` where what should be zero is not, beyond rounding in units of `size`."""
    if bool((apart.abs() > torch.finfo(dtype).eps ** 0.5 * size).any()):
        raise InputError(
            place,
            "an operator with uᵀAv other than vᵀAu",
            "a symmetric one, the same at every product",
            "remove randomness from model and data, or use float64",
        )


class _Scipy(ScipyOperator):
    def __init__(self, operator: LinearOperator) -> None:
        dtype = torch.empty((), dtype=operator.dtype).numpy().dtype
        super().__init__(dtype, (operator.size, operator.size))
        self._operator = operator

    def _matmat(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        rows = torch.tensor(X.T, dtype=self._operator.dtype, device=self._operator.device)
        return self._operator(rows).T.cpu().numpy()

    def _adjoint(self) -> "_Scipy":  # pyright: ignore[reportIncompatibleMethodOverride]
        return self
