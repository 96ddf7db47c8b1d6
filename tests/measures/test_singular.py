"""Learning coefficients of singular models against the known ones, and WBIC against evidence."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor, nn

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.measures import baselines, singular
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
    u = np.linspace(-25, 3, 1500)
    prior = u - localization / 2 * np.exp(2 * u)
    exponent = 2 * (powers[0] * u[:, None] + powers[1] * u[None, :])

    def log_evidence(nbeta: float) -> float:
        energy = -nbeta * np.exp(exponent) + prior[:, None] + prior[None, :]
        return float(special.logsumexp(energy))

    return log_evidence


@pytest.mark.parametrize(
    ("powers", "known", "multiplicity"),
    [((1, 0), 1 / 2, 1), ((2, 1), 1 / 4, 1), ((1, 1), 1 / 2, 2)],
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
        num_chains=1000,
        num_steps=400,
        burn_in=400,
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
    found = coefficient(checkpoint, nbeta=3000.0, num_chains=400, num_steps=300, burn_in=400)
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


def regression(n: int, weight_decay: float = 0.0, theta: Tensor | None = None) -> Checkpoint:
    """Least squares on three features, at its minimum or elsewhere."""
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=stream, dtype=torch.float64)
    noise = torch.randn(n, 1, generator=stream, dtype=torch.float64) / 2**0.5
    y = x.sum(1, keepdim=True) + noise
    ridge = n * weight_decay / 2 * torch.eye(3, dtype=torch.float64)
    best = torch.linalg.solve(x.T @ x + ridge, x.T @ y)[:, 0]
    net = nn.Linear(3, 1, bias=False).double()
    where = best if theta is None else theta
    return Checkpoint(gt.EmpiricalRisk(net, "mse", (x, y), weight_decay=weight_decay, theta=where))


@pytest.mark.parametrize(("batch_size", "step"), [(None, None), (400, 0.002)])
def test_trap_35_a_regular_model_has_half_its_parameters(
    batch_size: int | None, step: float | None
):
    """With n / log n for nβ, on all examples; in minibatches nearly."""
    options = {"num_chains": 100, "localization": 1e-6, "batch_size": batch_size}
    found = coefficient(regression(500), step_size=step, **options)
    assert found.stats["nbeta"] == 500 / math.log(500)
    assert found.stderr < 0.02
    error = abs(found.value - found.stats["minibatch_bias"] - 1.5)
    assert error < 3 * found.stderr + (0 if batch_size is None else 0.03)
    assert found.stats["effective_size"] > 2000
    assert np.mean(found.stats["chain_coefficients"]) == pytest.approx(found.value)


def test_trap_35_the_initial_loss_is_that_of_all_examples():
    checkpoint = regression(50)
    found = coefficient(checkpoint, batch_size=7, num_steps=20)
    assert found.stats["initial_loss"] == pytest.approx(float(checkpoint.risk.value()), rel=1e-12)


def test_trap_35_the_chains_run_in_eval_mode():
    """In training mode dropout would make a loss of what has none."""
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9), nn.Linear(2, 1)).double()
    x = torch.randn(20, 3, generator=generator(1), dtype=torch.float64)
    data = (x, net.eval()(x).detach())
    found = coefficient(Checkpoint(gt.EmpiricalRisk(net.train(), "mse", data)), num_steps=20)
    assert found.stats["initial_loss"] < 1e-25
    assert found.value > 0


def test_wbic_is_the_evidence_per_example():
    """The tempered mean in closed form, and about −log evidence / n, which Laplace has exactly."""
    n, decay = 300, 0.001
    checkpoint, nbeta = regression(n, decay), n / math.log(n)
    theta, eye = checkpoint.risk.theta, torch.eye(3, dtype=torch.float64)
    h = gt.hessian(checkpoint.risk).dense() - decay * eye
    precision = nbeta * h + n * decay * eye
    slope = -decay * theta  # of the loss alone, at the minimum with weight decay
    mean = -torch.linalg.solve(precision, nbeta * slope + n * decay * theta)
    spread = torch.linalg.solve(precision, h).trace()
    rise = float(slope @ mean + (mean @ h @ mean + spread) / 2)
    options = {"localization": 0.0, "num_chains": 100, "num_steps": 600}
    found = singular.wbic(checkpoint, **options, generator=generator(0))
    exact = float(checkpoint.risk.example_losses().mean()) + rise
    assert abs(found.value - exact) < 3 * found.stderr
    assert found.stats["total"] == pytest.approx(n * found.value)
    evidence = baselines.laplace_exact(checkpoint, generator=generator(0))
    assert n * abs(found.value - evidence.value) < 2 * math.sqrt(math.log(n))


def test_trap_35_a_negative_coefficient_is_flagged():
    away = regression(100, theta=torch.tensor([2.0, 1.0, 1.0]).double())
    found = coefficient(away)
    assert found.value < 0
    assert "not at a minimum" in found.warnings[0]


def test_trap_35_chains_that_still_drift_are_flagged():
    found = coefficient(regression(500), step_size=1e-4, burn_in=0)
    assert any("R-hat" in warning for warning in found.warnings)


def test_a_step_that_is_hardly_ever_accepted_is_flagged():
    found = coefficient(regression(500), step_size=1.0, num_steps=20)
    assert any("lower step_size" in warning for warning in found.warnings)


def test_noise_of_minibatches_is_flagged():
    found = coefficient(regression(5000), batch_size=5)
    assert any("noise of the minibatches" in warning for warning in found.warnings)


def test_a_chain_that_diverges_is_a_failure_with_the_way_out():
    name = "singular.learning_coefficient"
    options = {name: {"batch_size": 50, "step_size": 10.0}}
    found = gt.measure(regression(100), name, options=options)[name]
    assert found.status == "failed"
    assert "a chain diverged at step_size = 10: lower it" in found.reason


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("nbeta", 0.0),
        ("localization", -1.0),
        ("step_size", 0.0),
        ("num_chains", 0),
        ("num_steps", 7),
        ("burn_in", -1),
        ("batch_size", 0),
    ],
)
def test_options_out_of_range_are_refused(option: str, value: float):
    with pytest.raises(gt.InputError, match=f"{option}: found {value:g}, expected"):
        coefficient(regression(20), **{option: value})


def test_one_example_has_no_temperature():
    with pytest.raises(gt.InputError, match="give nbeta as a number"):
        coefficient(Checkpoint(regression(5).risk.restricted(lambda y: y[:, 0] == y.max())))
