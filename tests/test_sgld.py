"""Langevin chains on densities whose moments are known."""

import math

import pytest
import torch
from cases import CASES, Case
from scipy import stats
from torch import Tensor, nn

import gentheory as gt
from gentheory.seeds import generator
from gentheory.sgld import Chains, Potential, langevin
from gentheory.stats.chains import chain_mean


def regression(n: int = 40, dims: int = 3, weight_decay: float = 0.0) -> gt.EmpiricalRisk:
    """Least squares at its minimum, with curvatures that differ by a factor of ten."""
    stream = torch.Generator().manual_seed(0)
    scales = torch.logspace(0, -0.5, dims, dtype=torch.float64)
    x = torch.randn(n, dims, generator=stream, dtype=torch.float64) * scales
    y = x.sum(1, keepdim=True) + torch.randn(n, 1, generator=stream, dtype=torch.float64)
    ridge = n * weight_decay / 2 * torch.eye(dims, dtype=torch.float64)
    best = torch.linalg.solve(x.T @ x + ridge, x.T @ y)[:, 0]
    net = nn.Linear(dims, 1, bias=False).double()
    return gt.EmpiricalRisk(net, "mse", (x, y), weight_decay=weight_decay, theta=best)


def run(potential: Potential, seed: int = 0, **options: float | None) -> Chains:
    given = {
        "adjusted": False,
        "num_chains": 200,
        "num_steps": 400,
        "burn_in": 100,
        "step_size": None,
        **options,
    }
    return langevin(potential, **given, generator=generator(seed))  # type: ignore[arg-type]


def test_energy_and_gradient_are_those_of_the_risk(case: Case):
    """Of every net at once, on all examples and on some; with both priors."""
    risk = case.risk(weight_decay=0.0)
    noise = torch.randn(3, risk.num_params, generator=generator(1), dtype=torch.float64)
    theta = risk.theta + 0.05 * noise
    potential = Potential(risk, nbeta=7.0, localization=0.3, decay=0.2)
    x, y = case.data

    def energy(w: Tensor, rows: Tensor) -> Tensor:
        data = risk.loss_sum(w, (x[rows], y[rows])) / len(rows)
        return 7 * data + 0.1 * w.square().sum() + 0.15 * (w - risk.theta).square().sum()

    every = torch.arange(len(x))
    own = torch.stack([every[:4], every[[3, 3, 0, 1]], every[-4:]])
    for rows, of_chain in ((None, every.expand(3, -1)), (own, own)):
        point = potential.at(theta, rows)
        for k, chosen in enumerate(of_chain):
            expected = energy(theta[k], chosen) - energy(risk.theta, chosen)
            gradient = torch.func.grad(energy)(theta[k], chosen)
            assert float(potential.value(point)[k]) == pytest.approx(
                float(expected), rel=1e-9, abs=1e-12
            )
            torch.testing.assert_close(point.gradient[k], gradient, rtol=1e-8, atol=1e-10)


def test_a_model_without_batched_forms_gives_the_same(monkeypatch: pytest.MonkeyPatch):
    risk, other = CASES["conv"].risk(), CASES["conv"].risk()
    theta = risk.theta + torch.tensor([[0.0], [0.1]], dtype=torch.float64)
    rows = torch.tensor([[0, 1], [2, 2]])
    one = [Potential(risk, 1.0, 0.0).at(theta, r) for r in (None, rows)]
    other.once("runs as a stack", lambda: False)
    two = [Potential(other, 1.0, 0.0).at(theta, r) for r in (None, rows)]
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a.gradient, b.gradient, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(a.excess, b.excess, rtol=1e-10, atol=1e-12)


def test_chunks_of_the_data_change_nothing(monkeypatch: pytest.MonkeyPatch):
    theta = CASES["conv"].risk().theta + torch.tensor([[0.0], [0.1]], dtype=torch.float64)
    one = Potential(CASES["conv"].risk(), 1.0, 0.0).at(theta, None)
    monkeypatch.setattr("gentheory.sgld._NUMBERS", 150)
    two = Potential(CASES["conv"].risk(), 1.0, 0.0).at(theta, None)
    torch.testing.assert_close(one.gradient, two.gradient, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(one.excess, two.excess, rtol=1e-10, atol=1e-12)


def expected_excess(risk: gt.EmpiricalRisk, nbeta: float, localization: float) -> float:
    """½ Σ nβ h / (nβ h + γ) of a quadratic around its minimum."""
    h = torch.linalg.eigvalsh(gt.hessian(risk).dense())
    return float((nbeta * h / (nbeta * h + localization)).sum() / 2)


@pytest.mark.parametrize(("adjusted", "step"), [(True, None), (False, None), (False, 1.9)])
def test_trap_35_scores_are_standard_on_a_regular_model(adjusted: bool, step: float | None):
    """200 groups of four chains: tested, at the automatic step, and at a step as large as goes.

    At the last, plain noise would nearly double the variance along the steepest direction.
    """
    risk, nbeta = regression(), 40 / math.log(40)
    top = float(torch.linalg.eigvalsh(gt.hessian(risk).dense()).max())
    size = None if step is None else step / (nbeta * top + 0.5)
    potential = Potential(risk, nbeta, localization=0.5)
    chains = run(potential, num_chains=800, num_steps=400, step_size=size, adjusted=adjusted)
    truth = expected_excess(risk, nbeta, 0.5)
    found = [chain_mean(group) for group in (nbeta * chains.excess).unflatten(0, (200, 4)).numpy()]
    scores = [(each.value - truth) / each.stderr for each in found]
    assert stats.kstest(scores, "norm").pvalue > 0.01
    assert abs(sum(scores) / 200) < 3 / math.sqrt(200)
    assert abs(chain_mean((nbeta * chains.excess).numpy()).value / truth - 1) < 0.01


def test_only_the_metropolis_test_holds_where_curvature_grows():
    """nβ w⁴ has none at the origin to choose a step by, and E[nβ w⁴] = 1/4."""

    def quartic(outputs: Tensor, _: Tensor) -> Tensor:
        return outputs[:, 0] ** 4

    data = (torch.ones(2, 1).double(), torch.zeros(2).double())
    net = nn.Linear(1, 1, bias=False).double()
    risk = gt.EmpiricalRisk(net, quartic, data, theta=torch.zeros(1).double())
    potential = Potential(risk, nbeta=10.0, localization=1e-9)
    tested = run(potential, adjusted=True, step_size=0.13)
    found = chain_mean((10 * tested.excess).numpy())
    assert abs(found.value - 0.25) < 3 * found.stderr
    assert found.stderr < 0.01
    assert not run(potential, step_size=0.13).excess.isfinite().all()


def test_the_prior_of_weight_decay_is_sampled():
    """Around the minimum of nβ L + decay / 2 |w|², at which the risk's parameters are not."""
    risk, nbeta, decay = regression(), 5.0, 20.0
    h = gt.hessian(risk).dense()
    precision = nbeta * h + decay * torch.eye(3, dtype=torch.float64)
    mean = torch.linalg.solve(precision, nbeta * h @ risk.theta) - risk.theta
    spread = torch.linalg.solve(precision, h).trace()
    truth = float((mean @ h @ mean + spread) / 2)
    found = chain_mean(run(Potential(risk, nbeta, 0.0, decay)).excess.numpy())
    assert abs(found.value - truth) < 3 * found.stderr
    assert found.stderr < 0.01 * truth


def test_minibatches_are_unbiased_for_small_steps_and_their_noise_is_foretold():
    risk, nbeta = regression(), 40 / math.log(40)
    potential = Potential(risk, nbeta, 0.5, batch_size=10)
    truth = expected_excess(risk, nbeta, 0.5)
    chains = run(potential, num_steps=1500, step_size=0.02)
    found = chain_mean((nbeta * chains.excess).numpy())
    assert chains.minibatch_bias > 3 * found.stderr
    assert abs(found.value - chains.minibatch_bias - truth) < max(3 * found.stderr, 0.02 * truth)
    assert run(Potential(risk, nbeta, 0.5, batch_size=40)).minibatch_bias == 0


def test_the_automatic_step_is_accepted_and_as_long_as_the_curvature_allows():
    risk = regression()
    top = float(torch.linalg.eigvalsh(gt.hessian(risk).dense()).max())
    chains = run(Potential(risk, 10.0, 0.5), num_steps=10)
    assert 0.2 < chains.step_size * (10 * top + 0.5) < 1.05
    assert chains.acceptance > 0.5


def test_acceptance_falls_with_the_step():
    potential = Potential(regression(), 10.0, 0.5)
    rates = [run(potential, num_steps=10, step_size=size).acceptance for size in (0.01, 0.1, 0.13)]
    assert rates[0] > 0.98
    assert rates == sorted(rates, reverse=True)
