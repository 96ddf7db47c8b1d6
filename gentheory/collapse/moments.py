"""Counts, means and variances of features by class, and their covariance within classes.

One pass over batches, in float64, with memory that does not grow with the number of examples. Every
batch is shifted by the class means so far before it is squared, so that features collapsed onto
their means keep their digits (Chan, Golub & LeVeque 1983).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy.linalg import get_blas_funcs
from torch import Tensor

_SYRK: Any = get_blas_funcs("syrk", dtype="float64")
_BLOCK = 128
"""Rows of a block: 5/8 of the operations where there are 512 features."""


@dataclass(frozen=True)
class ClassMoments:
    """Moments of the features of each class, in float64."""

    counts: Float[Tensor, " C"]
    means: Float[Tensor, "C D"]
    variances: Float[Tensor, " C"]
    """E |h − μ_c|² over the class: the trace of its covariance, divided by n_c."""
    within: Float[Tensor, "D D"] | None
    """S_W = (1/N) Σ (h − μ_y)(h − μ_y)ᵀ over all examples; None where it was not asked for."""

    @property
    def within_trace(self) -> Float[Tensor, ""]:
        """tr S_W."""
        return (self.counts * self.variances).sum() / self.counts.sum()

    def of_classes(self, chosen: Tensor) -> "ClassMoments":
        """Those of some classes, given their numbers; S_W stays that of all examples."""
        parts = (self.counts[chosen], self.means[chosen], self.variances[chosen])
        return ClassMoments(*parts, self.within)


class ClassSums:
    """What the moments are made of: add batches in any order, merge the sums of parts."""

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        *,
        covariance: bool = True,
        device: torch.device | None = None,
    ) -> None:
        """`covariance` keeps D² numbers; without it C (D + 2) are kept."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.counts, self.spreads = zeros(num_classes), zeros(num_classes)
        self.means = zeros(num_classes, num_features)
        # Of the symmetric matrix the entries on and above the diagonal.
        self.scatter = zeros(num_features, num_features) if covariance else None

    def add(self, features: Float[Tensor, "B D"], targets: Tensor) -> None:
        """Examples with their classes [B]."""
        one_hot = self.means.new_zeros(len(targets), len(self.counts))
        one_hot[torch.arange(len(targets), device=targets.device), targets] = 1
        counts = one_hot.sum(0)
        x = features.double() if features.dtype != torch.float64 else features.clone()
        unseen = (self.counts == 0) & (counts > 0)
        if unseen.any():
            first = one_hot.argmax(0)[unseen]  # an example of each, to begin with
            self.means[unseen] = x[first]
        x -= self.means[targets]
        shifts = one_hot.T @ x / counts.clamp(min=1)[:, None]
        squares = one_hot.T @ torch.linalg.vecdot(x, x)
        self._update(counts, shifts, squares, x)

    def merge(self, other: "ClassSums") -> None:
        """The sums of other examples, as if they had been added here."""
        unseen = self.counts == 0
        self.means[unseen] = other.means[unseen]
        shifts = torch.where(other.counts[:, None] > 0, other.means - self.means, 0.0)
        # Around these means in place of their own.
        squares = other.spreads + other.counts * torch.linalg.vecdot(shifts, shifts)
        if self.scatter is not None:
            assert other.scatter is not None
            self.scatter += other.scatter
        rows = shifts * other.counts.sqrt()[:, None]
        self._update(other.counts, shifts, squares, rows)

    def _update(
        self,
        counts: Float[Tensor, " C"],
        shifts: Float[Tensor, "C D"],
        squares: Float[Tensor, " C"],
        rows: Float[Tensor, "B D"],
    ) -> None:
        """With n examples by class more, of means μ + d and squares around μ, rowsᵀ rows in all.

        Around the new means Σ x xᵀ is less by m² / (n + m) d dᵀ, m of n + m examples being new.
        """
        share = counts / (self.counts + counts).clamp(min=1)
        excess = counts * share
        self.spreads += squares - excess * torch.linalg.vecdot(shifts, shifts)
        if self.scatter is not None:
            add_gram(self.scatter, rows)
            add_gram(self.scatter, shifts * excess.sqrt()[:, None], alpha=-1.0)
        self.means += share[:, None] * shifts
        self.counts += counts

    def moments(self) -> ClassMoments:
        """Of all examples so far. Classes without any have nan for variances."""
        variances = self.spreads.clamp(min=0) / self.counts
        within = None if self.scatter is None else mirrored(self.scatter) / self.counts.sum()
        return ClassMoments(self.counts.clone(), self.means.clone(), variances, within)


def class_moments(
    batches: Iterable[tuple[Float[Tensor, "B D"], Tensor]],
    num_classes: int,
    *,
    covariance: bool = True,
) -> ClassMoments:
    """Moments of the features in batches (features, classes [B]), in one pass."""
    sums: ClassSums | None = None
    for features, targets in batches:
        if sums is None:
            shape = num_classes, features.shape[1]
            sums = ClassSums(*shape, covariance=covariance, device=features.device)
        sums.add(features, targets)
    assert sums is not None, "no batch"
    return sums.moments()


def add_gram(
    total: Float[Tensor, "D D"], rows: Float[Tensor, "B D"], *, alpha: float = 1.0
) -> None:
    """Add α rowsᵀ rows to the entries on and above the diagonal; those below are left undefined.

    In float64. On one thread by BLAS's symmetric update, which PyTorch does not offer: half of the
    operations of a product. SciPy's BLAS has threads of its own, which would wait for PyTorch's
    and they for them; so on several, and on a GPU, by products of blocks.
    """
    if total.device.type != "cpu" or torch.get_num_threads() > 1:
        for start in range(0, len(total), _BLOCK):
            block = slice(start, start + _BLOCK)
            total[block, start:].addmm_(rows[:, block].T, rows[:, start:], alpha=alpha)
        return
    # Fortran sees the transposes: what is its lower triangle is the upper one here.
    given = {"a": rows.contiguous().numpy().T, "c": total.numpy().T}
    _SYRK(alpha, beta=1.0, lower=1, overwrite_c=1, **given)


def mirrored(upper: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    """The symmetric matrix of which these are the entries on and above the diagonal."""
    return upper.triu() + upper.triu(1).T
