"""The GGN's spectrum and its damped inverse seen from the examples: nothing as large as P².

With B = Λ^½ J / √N the data's part of the GGN is BᵀB, and B Bᵀ [N C, N C] has its eigenvalues.
The push-through identity gives (BᵀB + λ)⁻¹ = (I − Bᵀ(BBᵀ + λ)⁻¹B) / λ, so that whatever is asked
of the inverse is in the Gram matrix J Jᵀ.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.examples import Examples
from gentheory.factors.gram import gram
from gentheory.linalg import Quadrature
from gentheory.risk import EmpiricalRisk


@dataclass(frozen=True)
class SampleSpace:
    """The modes of the data's part of the GGN that are above rounding; float64."""

    risk: EmpiricalRisk
    examples: Examples
    own: Float[Tensor, "N C C"]  # J_i J_iᵀ
    eigenvalues: Float[Tensor, " K"]  # positive, rising
    modes: Float[Tensor, "N C K"]  # J_i v_k, with v_k [P] the unit eigenvectors of the GGN

    @classmethod
    def of(cls, risk: EmpiricalRisk) -> "SampleSpace":
        """A pass for the Gram matrix, then an eigendecomposition of (N C)³ operations."""
        examples, kernel = Examples.of(risk), gram(risk)
        count, classes = examples.outputs.shape
        root = _root(examples.middles)
        weighted = torch.einsum("ncmd,mde->ncme", kernel, root) / count**0.5
        inner = torch.einsum("nce,ncmd->nemd", root, weighted) / count**0.5
        inner = inner.reshape(count * classes, count * classes)
        eigenvalues, vectors = torch.linalg.eigh((inner + inner.T) / 2)
        rounding = len(eigenvalues) * torch.finfo(torch.float64).eps * eigenvalues[-1]
        kept = eigenvalues > rounding
        eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
        # v_k = Bᵀu_k / √σ_k, so J v_k is J Bᵀ u_k / √σ_k.
        modes = weighted.reshape(count * classes, -1) @ (vectors / eigenvalues.sqrt())
        index = torch.arange(count, device=kernel.device)
        own = kernel[index, :, index]
        return cls(risk, examples, own, eigenvalues, modes.reshape(count, classes, -1))

    def coordinates(self, vector: Float[Tensor, " P"]) -> Float[Tensor, " K"]:
        """v_kᵀ vector; one forward-mode pass over the data."""
        risk = self.risk
        pushed = [_push(risk, inputs, vector) for inputs, _ in risk.batches()]
        weighted = torch.einsum("ncd,nd->nc", self.examples.middles, torch.cat(pushed).double())
        # G v_k = σ_k v_k, hence v_kᵀ x = v_kᵀ G x / σ_k.
        inner = torch.einsum("nck,nc->k", self.modes, weighted) / len(self.own)
        return inner / self.eigenvalues

    def spectrum(self) -> Quadrature:
        """Every eigenvalue of the GGN with the weight decay, as a quadrature of one exact sample.

        Those below rounding count as 0.
        """
        size = self.risk.num_params
        values = torch.cat([self.eigenvalues.new_zeros(1), self.eigenvalues])
        counts = torch.ones_like(values)
        counts[0] = size - len(self.eigenvalues)
        return Quadrature(values[None] + self.risk.weight_decay, counts[None] / size, size)

    def influence(self, ridge: float) -> Float[Tensor, "N C C"]:
        """A_i = J_i (G + ridge)⁻¹ J_iᵀ / N with the data's part of G."""
        # Within the modes, and in the directions that no mode reaches.
        weights = 1 / (self.eigenvalues + ridge) - 1 / ridge
        within = torch.einsum("nck,k,ndk->ncd", self.modes, weights, self.modes)
        return (within + self.own / ridge) / len(self.own)


def _push(risk: EmpiricalRisk, inputs: Tensor, vector: Tensor) -> Float[Tensor, "B C"]:
    return torch.func.jvp(
        lambda theta: risk.outputs(theta, inputs), (risk.theta,), (vector.to(risk.theta),)
    )[1].detach()


def _root(middles: Float[Tensor, "N C C"]) -> Float[Tensor, "N C C"]:
    """The symmetric square roots; a loss that is concave somewhere has none."""
    values, vectors = torch.linalg.eigh(middles)
    # The root of rounding around a zero would be far above rounding.
    noise = values.shape[-1] * torch.finfo(values.dtype).eps * values.abs().amax(-1, keepdim=True)
    root = torch.where(values > noise, values, 0).sqrt()
    return torch.einsum("nce,ne,nde->ncd", vectors, root, vectors)
