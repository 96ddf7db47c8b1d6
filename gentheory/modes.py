"""Dense H and C, their eigenbases, and the predicted gap tr((H + λ)⁻¹ C) / n in such a basis."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.risk import EmpiricalRisk


@dataclass(frozen=True)
class Gap:
    """What the modes predict at one damping."""

    raw_trace: float
    """tr((H + λ)⁻¹ C)."""
    slope: float
    """Its derivative in log λ."""
    effective_rank: float
    """tr((H + λ)⁻¹ H)."""
    newton_decrement: float
    """ḡᵀ(H + λ)⁻¹ḡ / 2, by which the risk would still fall."""


@dataclass(frozen=True)
class Modes:
    """Diagonal entries of curvature H and covariance C, and the mean gradient; all in float64."""

    curvature: Float[Tensor, " K"]
    covariance: Float[Tensor, " K"]
    gradient: Float[Tensor, " K"]
    unseen: int = 1
    """Directions that the last entry stands for, all of the same curvature."""

    @classmethod
    def decayed(
        cls,
        risk: EmpiricalRisk,
        curvature: Float[Tensor, " K"],
        covariance: Float[Tensor, " K"],
        gradient: Float[Tensor, " K"],
        theta: Float[Tensor, " K"],
        *,
        centred: bool,
    ) -> "Modes":
        """From the data's part alone; `theta` holds the coordinates of the parameters.

        With g_i = h_i + d, d = weight_decay · θ: Σ g_i² / N = Σ h_i² / N + 2 h̄ d + d², less ḡ²
        where `centred`.
        """
        decay = risk.weight_decay * theta.double()
        mean = gradient + decay
        covariance = covariance + 2 * gradient * decay + decay.square()
        if centred:
            covariance = covariance - mean.square()
        return cls(curvature + risk.weight_decay, covariance, mean)

    @classmethod
    def joined(cls, parts: list["Modes"]) -> "Modes":
        """The modes of blocks that do not mix."""
        return cls(
            torch.cat([part.curvature for part in parts]),
            torch.cat([part.covariance for part in parts]),
            torch.cat([part.gradient for part in parts]),
        )

    @property
    def largest(self) -> float:
        """The largest curvature in size."""
        return float(self.curvature.abs().max())

    @property
    def negative_mass(self) -> float:
        """Share of Σ|h| that is negative."""
        sizes = self.curvature.abs()
        return float((sizes * (self.curvature < 0)).sum() / sizes.sum())

    def gap(self, ridge: float, *, truncated: bool = False) -> Gap:
        """Σ c / (|h| + ridge); or, `truncated`, Σ c / h over the modes with h above the ridge."""
        size, c = self.curvature.abs(), self.covariance
        # Without damping a pseudo-inverse: below rounding, h and c are noise and so is their ratio.
        rounding = len(size) * torch.finfo(size.dtype).eps * self.largest
        if truncated:
            inverse = torch.where(self.curvature > max(ridge, rounding), 1 / size, 0.0)
        else:
            inverse = torch.where(size + ridge <= rounding, 0.0, 1 / (size + ridge))
        share = size * inverse
        return Gap(
            float((c * inverse).sum()),
            torch.nan if truncated else -float((c * ridge * inverse.square()).sum()),
            float(share.sum() + (self.unseen - 1) * share[-1]),
            float((self.gradient.square() * inverse).sum()) / 2,
        )


@dataclass(frozen=True)
class Moments:
    """Curvature H, covariance C and mean gradient of the data's part, on some parameters; float64.

    Weight decay is left out: it changes no eigenvector, and `modes` adds it.
    """

    where: slice
    curvature: Float[Tensor, "p p"]
    covariance: Float[Tensor, "p p"]
    gradient: Float[Tensor, " p"]

    def part(self, block: slice) -> "Moments":
        """On fewer of the parameters."""
        own = slice(block.start - self.where.start, block.stop - self.where.start)
        return Moments(
            block, self.curvature[own, own], self.covariance[own, own], self.gradient[own]
        )


@dataclass(frozen=True)
class Eigenbasis:
    """The eigendecomposition of a block's curvature, and what the block holds in that basis."""

    where: slice
    values: Float[Tensor, " p"]
    vectors: Float[Tensor, "p p"]  # as columns
    covariance: Float[Tensor, " p"]
    gradient: Float[Tensor, " p"]

    @classmethod
    def of(cls, moments: Moments) -> "Eigenbasis":
        """p³ operations."""
        values, vectors = torch.linalg.eigh(moments.curvature)
        covariance = (vectors * (moments.covariance @ vectors)).sum(0)
        return cls(moments.where, values, vectors, covariance, vectors.T @ moments.gradient)

    def modes(self, risk: EmpiricalRisk, *, centred: bool) -> Modes:
        """With the risk's weight decay in H and in the gradients."""
        theta = self.vectors.T @ risk.theta[self.where].double()
        parts = (self.values, self.covariance, self.gradient, theta)
        return Modes.decayed(risk, *parts, centred=centred)


@dataclass(frozen=True)
class OutputModes:
    """Eigenvectors v_k of the data's part of the GGN, seen through each example's outputs."""

    eigenvalues: Float[Tensor, " K"]
    modes: Float[Tensor, "N C K"]  # J_i v_k
    own: Float[Tensor, "N C C"] | None = None
    """J_i J_iᵀ, where the modes leave out directions of no curvature; None where they are all."""

    def influence(self, ridge: float) -> Float[Tensor, "N C C"]:
        """A_i = J_i (G + ridge)⁻¹ J_iᵀ / N."""
        beyond = 0.0 if self.own is None else 1 / ridge
        weights = 1 / (self.eigenvalues + ridge) - beyond
        within = torch.einsum("nck,k,ndk->ncd", self.modes, weights, self.modes)
        return (within if self.own is None else within + beyond * self.own) / len(self.modes)
