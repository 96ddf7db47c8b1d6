"""A growing orthonormal basis and a symmetric operator's projection on it."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.linalg.operator import LinearOperator, check_symmetric
from gentheory.linalg.probes import gaussian

_FIRST_ROWS = 32
_COLUMNS = 2**16
"""Columns of the basis that are rotated at once."""


class Basis:
    """Orthonormal rows Q with A Qᵀ = Qᵀ T + Wᵀ B: Lanczos that can be restarted and begun anew.

    One more row waits for its product. A run is what comes from one random start; W holds what
    the runs left behind when another began, less its part in the basis, and the waiting row.
    """

    def __init__(
        self, operator: LinearOperator, room: int, generator: Generator, *, at_once: bool
    ) -> None:
        self._operator, self._generator, self._room = operator, generator, room
        rows = room if at_once else min(room, _FIRST_ROWS)
        self._rows = torch.empty(rows, operator.size, dtype=operator.dtype, device=operator.device)
        self._left = self._rows[:0]
        self.count = self.products = 0
        self.projected: Tensor = torch.zeros(0, 0, dtype=torch.float64, device=operator.device)
        self.couplings = _padded(self.projected, 1, 0)  # B, the waiting row's last
        self._lost = self.projected  # as B, for rows of W that a restart dropped
        self.scale = self.projected.sum()  # the largest Ritz value in size so far
        self._start: int | None = None
        self.exhausted = True  # the waiting row is missing

    @property
    def rows(self) -> int:
        """Rows that memory is held for."""
        return len(self._rows)

    @property
    def full(self) -> bool:
        """No row is left for the vector after the next."""
        return self.count + 1 == self._room

    @property
    def restarted(self) -> bool:
        """The present run's beginnings are gone."""
        return self._start is None

    def begin(self) -> None:
        """Go on from a random direction, orthogonal to all there is."""
        if not self.exhausted:
            self._left = torch.cat([self._left, self._rows[self.count, None]])
            self.couplings = _padded(self.couplings, 1, 0)
        start = gaussian(1, self._operator, self._generator)[0]
        known = self._rows[: self.count]
        self._wait(_orthogonal(_orthogonal(start, known), known))
        self._start, self.exhausted = self.count, False

    def expand(self) -> None:
        """One product: the waiting row becomes part of the basis."""
        if self.exhausted:
            self.begin()
        count = self.count
        known = self._rows[: count + 1]
        q = known[-1]
        w = self._operator(q)
        self.products += 1
        # In a single run A q lies along the last two rows and the next, but for rounding: what is
        # left after these two is so short that orthogonalizing it once is enough.
        near = known[-2:] if self._start == 0 else known
        first = near @ w
        w = w - first @ near
        second = known @ w
        w = w - second @ known
        column, beta = second.double(), w.double().norm()
        column[-len(near) :] += first
        if count == 1:
            self._check_symmetry(column)
        self._left = self._left - (self._left @ q)[:, None] * q
        self.projected = _padded(self.projected, 1, 1)
        self.projected[count] = self.projected[:, count] = column
        self.couplings = _padded(self.couplings, 0, 1)
        self.couplings[-1] = 0
        self._lost = _padded(self._lost, 0, 1)
        self.count += 1
        # Below rounding the Krylov space is invariant, and what is left of w is noise.
        rounding = 10 * torch.finfo(w.dtype).eps * self.projected.abs().max()
        self.exhausted = not bool(beta > rounding) or self.count == self._operator.size
        if not self.exhausted:
            self.couplings[-1, -1] = beta
            self._wait(w)

    def ritz(self, low: int, high: int) -> tuple[Tensor, Tensor, Tensor]:
        """The lowest and highest Ritz values, their coordinates [m, k], norms of the residuals."""
        if not bool(self.projected.isfinite().all()):
            raise FloatingPointError("lanczos: a product with the operator is not finite")
        values, y = torch.linalg.eigh(self.projected)
        self.scale = torch.maximum(self.scale, values.abs().max())
        index = torch.arange(self.count, device=y.device)
        ends = (index < low) | (index >= self.count - high)
        values, y = values[ends], y[:, ends]
        return values, y, self._residuals(y)

    def _residuals(self, y: Float[Tensor, "m k"]) -> Float[Tensor, " k"]:
        along, others = self.couplings @ y, self._left
        if not self.exhausted:
            others = torch.cat([others, self._rows[self.count, None]])
        return _lengths(along[: len(others)], others) + (self._lost @ y).abs().sum(0)

    def missed(self, floor: Tensor, sign: int = 1) -> float:
        """Chance that the present run's start has too little of an eigenvector beyond `floor`.

        One orthogonal to the basis that the run began with, above `floor`, or below it for a
        negative sign; inf where the run has itself found one, nan after a restart.
        """
        if self.count == self._operator.size:
            return 0.0
        if self._start is None:
            return math.nan
        own = self.projected[self._start :, self._start :]
        gaps = sign * (floor - torch.linalg.eigvalsh(own))
        betas = torch.cat([own.diagonal(1), self.couplings[-1:, -1]]).abs()
        dimension = self._operator.size - self._start
        share = betas.log().sum() - gaps.log().sum() + math.log(dimension) / 2
        # The start's share of one direction, times √dimension, is standard normal.
        return float((share.exp() * math.sqrt(2 / math.pi)).where((gaps > 0).all(), math.inf))

    def restart(self, low: int, high: int) -> None:
        """Keep these Ritz vectors in place of the basis, and the waiting row."""
        _, y, _ = self.ritz(low, high)
        kept = y.shape[1]
        for columns in self._rows.split(_COLUMNS, dim=1):
            columns[:kept] = y.T.to(columns) @ columns[: self.count]
            columns[kept] = columns[self.count]
        self.projected = y.T @ self.projected @ y
        along = self.couplings @ y
        self._lost = torch.cat([self._lost @ y, along[:-1]])
        self.couplings, self._left = along[-1:], self._left[:0]
        self.count, self._start = kept, None

    def vectors(self, y: Float[Tensor, "m k"]) -> Float[Tensor, "k P"]:
        """Unit vectors with these coordinates."""
        x = y.T.to(self._rows) @ self._rows[: self.count]
        return x / x.norm(dim=1, keepdim=True)

    def _wait(self, w: Float[Tensor, " P"]) -> None:
        """The waiting row; memory grows as it is needed."""
        have = len(self._rows)
        if self.count == have:
            more = self._rows.new_empty(min(2 * have, self._room) - have, self._operator.size)
            self._rows = torch.cat([self._rows, more])
        self._rows[self.count] = w / w.norm()

    def _check_symmetry(self, column: Float[Tensor, " m"]) -> None:
        """q₀ᵀA q₁ must be q₁ᵀA q₀; the probe that costs no product."""
        apart = (column[0] - self.couplings[-1, 0]).abs()
        size = torch.stack([column.abs().max(), self.projected.abs().max(), self.couplings.max()])
        check_symmetric("lanczos", apart, size.max(), self._operator.dtype)


def _orthogonal(w: Float[Tensor, " P"], basis: Float[Tensor, "K P"]) -> Float[Tensor, " P"]:
    return w - (basis @ w) @ basis


def _lengths(along: Float[Tensor, "n k"], rows: Float[Tensor, "n P"]) -> Float[Tensor, " k"]:
    """Norms of alongᵀ rows, rows that need not be orthogonal."""
    if len(rows) == 1:
        return along[0].abs() * rows[0].double().norm()
    gram = (rows @ rows.T).double()
    return torch.einsum("ik,ij,jk->k", along, gram, along).clamp(min=0).sqrt()


def _padded(matrix: Tensor, rows: int, columns: int) -> Tensor:
    return torch.nn.functional.pad(matrix, (0, columns, 0, rows))
