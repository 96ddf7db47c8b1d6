"""Learning coefficients of singular models against the known ones, and WBIC against evidence."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.linear_model import BayesianRidge
from torch import Tensor, nn

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.measures import singular
from gentheory.seeds import generator


class Product(nn.Module):
    """w₁ᵏ w₂ˡ, whose square has a normal crossing at the origin."""

    def __init__(self, *powers: int) -> None:
        super().__init__()
        self.powers = powers
        self.weight = nn.Parameter(torch.zeros(len(powers)).double())

    def forward(self, x: Tensor) -> Tensor:
        parts = [w**power for w, power in zip(self.weight, self.powers, strict=True)]
        return x * torch.stack(parts).prod()


class ReducedRank(nn.Module):
    """B A x with A [H, M] and B [N, H]."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(a.double()), nn.Parameter(b.double())

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.b @ self.a).T


def without_noise(net: nn.Module, dims: int) -> Checkpoint:
    """On unit vectors and the net's own outputs: the loss is |change of the map|² / outputs / M."""
    x = torch.eye(dims, dtype=torch.float64)
    return Checkpoint(gt.EmpiricalRisk(net, "mse", (x, net(x).detach())))


def coefficient(checkpoint: Checkpoint, seed: int = 0, **options: object) -> gt.Estimate:
    return singular.learning_coefficient(
        checkpoint,
        **options,  # type: ignore[arg-type]
        generator=generator(seed),
    )


def mean_energy(log_evidence: Callable[[float], float], nbeta: float) -> float:
    """−∂ log Z / ∂ log nβ, the mean of nβ L under the posterior, by a difference."""
    step = 1e-4
    there, back = (log_evidence(nbeta * math.exp(sign * step)) for sign in (1, -1))
    return (back - there) / (2 * step)


def crossing(powers: tuple[int, int], localization: float) -> Callable[[float], float]:
    """log Z of w₁^2k w₂^2l with the normal prior, by quadrature in the logarithms."""
    u = np.linspace(-25, 3, 3000)
    prior = u - localization / 2 * np.exp(2 * u)
    exponent = 2 * (powers[0] * u[:, None] + powers[1] * u[None, :])

    def log_evidence(nbeta: float) -> float:
        energy = -nbeta * np.exp(exponent) + prior[:, None] + prior[None, :]
        return float(special.logsumexp(energy))

    return log_evidence


@pytest.mark.parametrize(
    ("powers", "known", "multiplicity"), [((1, 0), 1 / 2, 1), ((2, 1), 1 / 4, 1), ((1, 1), 1 / 2, 2)]
)
def test_trap_35_normal_crossings(powers: tuple[int, int], known: float, multiplicity: int):
    """λ = min 1 / 2k, and less (m − 1) / log nβ; at a smaller nβ exactly, by quadrature."""
    evidence, far = crossing(powers, 1.0), 1e8
    limit = known - (multiplicity - 1) / math.log(far)
    assert mean_energy(evidence, far) == pytest.approx(limit, abs=0.02)
    exact = mean_energy(evidence, 100.0)
    found = coefficient(
        without_noise(Product(*powers), 1),
        nbeta=100.0,
        step_size=0.005,
        num_chains=500,
        num_steps=800,
        burn_in=800,
    )
    assert abs(found.value - exact) < 3 * found.stderr
    assert found.stderr < 0.02 * known


def aoyagi(inputs: int, outputs: int, hidden: int, rank: int) -> tuple[float, int]:
    """λ and its multiplicity for reduced rank regression (Aoyagi & Watanabe 2005)."""
    m, n, h, r = inputs, outputs, hidden, rank
    if m + h < n + r:
        return (h * m - h * r + n * r) / 2, 1
    if n + h < m + r:
        return (h * n - h * r + m * r) / 2, 1
    if m + n < h + r:
        return m * n / 2, 1
    twice = -((h + r) ** 2) - m**2 - n**2 + 2 * (h + r) * (m + n) + 2 * m * n
    odd = (m + n + h + r) % 2
    return (twice + odd) / 8, 1 + odd


@pytest.mark.parametrize(
    ("sizes", "known"),
    [((2, 2, 1, 1), 3 / 2), ((3, 2, 1, 1), 2.0), ((2, 2, 2, 2), 2.0), ((3, 1, 1, 0), 1 / 2)],
)
def test_trap_35_reduced_rank_regression(sizes: tuple[int, int, int, int], known: float):
    inputs, outputs, hidden, rank = sizes
    assert aoyagi(*sizes) == (known, 1)
    stream = torch.Generator().manual_seed(3)
    a = torch.linalg.qr(torch.randn(inputs, inputs, generator=stream)).Q[:hidden] * 1.5
    b = torch.linalg.qr(torch.randn(outputs, outputs, generator=stream)).Q[:, :hidden] * 1.5
    kept = (torch.arange(hidden) < rank).float()
    checkpoint = without_noise(ReducedRank(a * kept[:, None], b * kept), inputs)
    found = coefficient(
        checkpoint, nbeta=3000.0, num_chains=200, num_steps=600, burn_in=600
    )
    assert not found.warnings
    assert abs(found.value - known) < 3 * found.stderr + 0.01 * known
    assert found.value < 0.9 * checkpoint.risk.num_params / 2


def test_aoyagi_watanabe_at_the_origin_of_two_by_two():
    """Rank 0 in a net of two hidden units, where the set of zeros crosses itself: λ = 3/2."""
    assert aoyagi(2, 2, 2, 0) == (1.5, 1)
    nbeta, zeros = 1000.0, torch.zeros(2, 2)

    u = np.exp(np.linspace(-22, 5, 1400))
    x, y = u[:, None], u[None, :]
    wishart = np.abs(x - y) * np.exp(-(x + y) / 2) * np.sqrt(x * y)  # in log x and log y

    def log_evidence(nbeta: float) -> float:
        """B is normal given A; the eigenvalues of AAᵀ are those of a Wishart matrix."""
        given = (1 + nbeta / 2 * x) * (1 + nbeta / 2 * y)
        return float(np.log((wishart / given).sum()))

    exact = mean_energy(log_evidence, nbeta)
    assert exact == pytest.approx(1.5, abs=0.15)
    found = coefficient(
        without_noise(ReducedRank(zeros, zeros), 2),
        nbeta=nbeta,
        num_chains=500,
        num_steps=1000,
        burn_in=1000,
    )
    assert abs(found.value - exact) < 3 * found.stderr
