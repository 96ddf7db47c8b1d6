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
from gentheory.factors.forward import pushed
from gentheory.factors.gram import gram, output_grams
from gentheory.linalg import Quadrature
from gentheory.middles import roots
from gentheory.modes import Modes, OutputModes
from gentheory.risk import EmpiricalRisk


@dataclass(frozen=True)
class SampleSpace:
    """The modes of the data's part of the GGN that are above rounding; float64."""

    risk: EmpiricalRisk
    examples: Examples
    output_modes: OutputModes  # eigenvalues rising

    @classmethod
    def of(cls, risk: EmpiricalRisk) -> "SampleSpace":
        """A pass for the Gram matrix, then an eigendecomposition of (N C)³ operations."""
        examples, kernel = Examples.of(risk), gram(risk)
        count, classes = examples.outputs.shape
        root = roots(examples.middles)
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
        modes = modes.reshape(count, classes, -1)
        return cls(risk, examples, OutputModes(eigenvalues, modes, kernel[index, :, index]))

    def coordinates(self, vector: Float[Tensor, " P"]) -> Float[Tensor, " K"]:
        """v_kᵀ vector; one forward-mode pass over the data."""
        risk = self.risk
        rows = torch.cat([rows for _, rows, _ in pushed(risk, vector)])
        weighted = torch.einsum("ncd,nd->nc", self.examples.middles, rows)
        # G v_k = σ_k v_k, hence v_kᵀ x = v_kᵀ G x / σ_k.
        found = self.output_modes
        inner = torch.einsum("nck,nc->k", found.modes, weighted) / risk.num_examples
        return inner / found.eigenvalues

    def spectrum(self) -> Quadrature:
        """Every eigenvalue of the GGN with the weight decay, as a quadrature of one exact sample.

        Those below rounding count as 0.
        """
        size = self.risk.num_params
        values = torch.cat(
            [self.output_modes.eigenvalues.new_zeros(1), self.output_modes.eigenvalues]
        )
        counts = torch.ones_like(values)
        counts[0] = size - len(self.output_modes.eigenvalues)
        return Quadrature(values[None] + self.risk.weight_decay, counts[None] / size, size)

    def modes(self, *, centred: bool) -> Modes:
        """Of the GGN with the risk's weight decay; the last stands for all that no mode reaches."""
        risk, found, r = self.risk, self.output_modes, self.examples.residuals
        assert found.own is not None  # never complete
        mean, d = risk.gradient().double(), risk.weight_decay * risk.theta.double()
        towards_mean, towards_d = self.coordinates(mean), self.coordinates(d)
        along = torch.einsum("nc,nck->nk", r, found.modes) + towards_d
        covariance = along.square().mean(0)
        total = torch.einsum("nc,ncd,nd->", r, found.own, r) / len(r) + 2 * mean @ d - d @ d
        if centred:
            covariance, total = covariance - towards_mean.square(), total - mean @ mean
        beyond = torch.stack([total - covariance.sum(), mean @ mean - towards_mean.square().sum()])
        covariance_beyond, gradient_beyond = beyond.clamp(min=0)
        return Modes(
            torch.cat([found.eigenvalues, beyond.new_zeros(1)]) + risk.weight_decay,
            torch.cat([covariance, covariance_beyond[None]]),
            torch.cat([towards_mean, gradient_beyond.sqrt()[None]]),
            unseen=risk.num_params - len(found.eigenvalues),
        )


@dataclass(frozen=True)
class OutputsApart:
    """The blocks of the GGN's data part that belong to one output each; float64.

    What couples two outputs is left out: ⟨J_ic, J_jd⟩, which is none in a wide net at its start
    (Jacot et al. 2018), and Λ_icd.
    """

    kernels: Float[Tensor, "C N N"]
    """⟨J_ic, J_jc⟩."""
    bends: Float[Tensor, "C N"]
    """Λ_icc."""

    @classmethod
    def of(cls, risk: EmpiricalRisk, middles: Float[Tensor, "N C C"]) -> "OutputsApart":
        """With these Λ_i. One pass, computed once a risk; takes C N² numbers."""
        kernels = risk.once("output kernels", lambda: output_grams(risk).double())
        return cls(kernels, middles.diagonal(dim1=1, dim2=2).T.clamp(min=0))

    @property
    def largest(self) -> float:
        """The largest eigenvalue of a block."""
        return float(torch.linalg.eigvalsh(self._inner()).max())

    def influence(self, ridge: float) -> Float[Tensor, "N C"]:
        """J_ic (G_c + ridge)⁻¹ J_icᵀ / N for a positive ridge; C N³ operations."""
        inner, count = self._inner(), self.kernels.shape[1]
        inner.diagonal(dim1=1, dim2=2).add_(ridge)
        weighted = self.bends.sqrt()[:, :, None] * self.kernels
        rows = torch.linalg.solve_triangular(torch.linalg.cholesky(inner), weighted, upper=False)
        own = self.kernels.diagonal(dim1=1, dim2=2) - rows.square().sum(1) / count
        return own.T.clamp(min=0) / (ridge * count)

    def _inner(self) -> Float[Tensor, "C N N"]:
        root = self.bends.sqrt() / self.kernels.shape[1] ** 0.5
        return root[:, :, None] * self.kernels * root[:, None]
