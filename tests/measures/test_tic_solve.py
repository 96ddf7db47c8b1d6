"""TIC without a matrix: within its error bars of the exact value, and calibrated."""

import math
from typing import Any

import pytest
import torch
from cases import CASES, Case, truth
from scipy import stats

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.curvature import gradient_draws
from gentheory.estimate import Estimate
from gentheory.measures import tic
from gentheory.seeds import generator

pytestmark = pytest.mark.usefixtures("untraced")

PRECONDITIONERS = ["kfac", "nystrom", "none"]


def solve(risk: gt.EmpiricalRisk, *seed: object, **options: Any) -> Estimate:
    return tic.solve(Checkpoint(risk), generator=generator("solve", *seed), **options)


def exact(risk: gt.EmpiricalRisk, **options: Any) -> Estimate:
    return tic.exact(Checkpoint(risk), generator=generator(0), **options)


@pytest.mark.parametrize("centred", [False, True])
def test_within_its_error_of_exact(case: Case, centred: bool):
    risk = case.risk(batch_size=99)
    found = solve(risk, case.name, centred=centred, rtol=1e-9, num_probes=32)
    wanted = exact(risk, centred=centred)
    assert not _unsolved(found)
    assert abs(found.value - wanted.value) < 4 * found.stderr
    assert 0 < found.stderr < 0.2 * found.value
    slope, rank = wanted.stats["slope_log_damping"], wanted.stats["effective_rank"]
    assert found.stats["slope_log_damping"] == pytest.approx(slope, rel=0.5)
    assert abs(found.stats["effective_rank"] - rank) < 6 * found.stats["effective_rank_stderr"]
    for name in ("absolute_damping", "largest_eigenvalue"):
        assert found.stats[name] == pytest.approx(wanted.stats[name], rel=1e-3)
    for name in ("newton_decrement", "gradient_norm"):
        assert found.stats[name] == pytest.approx(wanted.stats[name], rel=1e-3)
    assert found.stats["residual"] <= 1e-9


def test_trap_25_two_hundred_seeds_give_standard_scores():
    """With enough probes that the skewness of a quadratic form in 12 signs does not show."""
    risk = CASES["mlp"].risk(batch_size=99)
    options = {"absolute_damping": 1.0, "num_probes": 80, "preconditioner": "none"}
    wanted = exact(risk, absolute_damping=1.0)
    found = [solve(risk, "calibration", seed, **options) for seed in range(200)]
    scores = torch.tensor([(e.value - wanted.value) / e.stderr for e in found])
    assert stats.kstest(scores.numpy(), "norm").pvalue > 0.01
    assert abs(float(scores.mean())) < 3 / math.sqrt(200)
    ranks = torch.tensor([e.stats["effective_rank"] for e in found])
    errors = torch.tensor([e.stats["effective_rank_stderr"] for e in found])
    mean_error = float(ranks.std()) / math.sqrt(200)
    assert abs(float(ranks.mean()) - wanted.stats["effective_rank"]) < 3 * mean_error
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(ranks.std()), rel=0.2)
    slopes = torch.tensor([e.stats["slope_log_damping"] for e in found])
    mean_error = float(slopes.std()) / math.sqrt(200)
    assert abs(float(slopes.mean()) - wanted.stats["slope_log_damping"]) < 3 * mean_error


def test_trap_6_random_sums_of_gradients_have_the_covariance(case: Case):
    """uᵀMu averages to tr(MC), here for a random M = wwᵀ and for the identity."""
    risk, dense = case.risk(batch_size=3), truth(case.name)
    w = torch.randn(risk.num_params, generator=generator("w"), dtype=torch.float64)
    for centred, c in ((False, dense.covariance), (True, dense.centred)):
        u = gradient_draws(risk, 600, centred=centred, generator=generator(case.name))
        for forms, wanted in ((u.square().sum(1), c.trace()), ((u @ w).square(), w @ c @ w)):
            error = float(forms.std()) / math.sqrt(600)
            assert abs(float(forms.mean() - wanted)) < 4 * error + 1e-12 * float(wanted)


@pytest.mark.parametrize("name", ["mlp", "skip", "grouped conv", "embedding"])
def test_preconditioners_change_the_steps_only(name: str):
    risk, options = CASES[name].risk(), {"absolute_damping": 0.01, "rtol": 1e-10}
    found = [solve(risk, preconditioner=p, **options) for p in PRECONDITIONERS]
    # The Nyström sketch is drawn after the signs.
    for other in found[1:]:
        assert other.value == pytest.approx(found[0].value, rel=1e-8)
        assert other.stderr == pytest.approx(found[0].stderr, rel=1e-6)
        rank = found[0].stats["effective_rank"]
        assert other.stats["effective_rank"] == pytest.approx(rank, rel=1e-6)
    assert all(e.stats["residual"] <= 1e-10 and not _unsolved(e) for e in found)


def _unsolved(estimate: Estimate) -> bool:
    return any("not solved" in warning for warning in estimate.warnings)


@pytest.mark.parametrize("curvature", ["fisher", "sampled_fisher"])
def test_other_curvatures(curvature: str):
    risk = CASES["mlp"].risk(batch_size=99)
    found = solve(risk, curvature=curvature, absolute_damping=0.1, rtol=1e-9, num_probes=64)
    assert found.stats["curvature"] == curvature
    if curvature == "fisher":
        wanted = exact(risk, curvature=curvature, absolute_damping=0.1).value
        assert abs(found.value - wanted) < 4 * found.stderr
    else:
        assert math.isnan(found.stderr)


def test_too_few_steps_are_a_warning():
    found = solve(CASES["mlp"].risk(), max_steps=2, rtol=1e-8, preconditioner="none")
    assert found.warnings[-1] == "not solved to 1e-08 in 2 steps"
    assert found.stats["residual"] > 1e-8
    assert 2 <= found.stats["steps"] <= 3
    assert not _unsolved(solve(CASES["mlp"].risk(), max_steps=500, rtol=1e-8))


def test_trap_4_neither_batch_size_nor_split_matter():
    """The signs belong to the examples, not to the batches: equal to the solver's rounding."""
    stream = generator("split")
    x = torch.randn(64, 5, generator=stream, dtype=torch.float64)
    y, net = torch.randint(3, (64,), generator=stream), CASES["mlp"].module
    options = {"rtol": 1e-12, "absolute_damping": 0.1}
    data = [(x, y), (x, y), [(x[:60], y[:60]), (x[60:], y[60:])]]
    found = [
        solve(gt.EmpiricalRisk(net, "cross_entropy", d, batch_size=b), **options)
        for d, b in zip(data, (64, 7, 64), strict=True)
    ]
    for other in found[1:]:
        assert other.value == pytest.approx(found[0].value, rel=1e-10)
        assert other.stderr == pytest.approx(found[0].stderr, rel=1e-9)


def test_trap_9_the_hessian_is_refused_with_a_way_out():
    message = r"curvature: found 'hessian', expected .*; use curvature=\"ggn\"\."
    with pytest.raises(gt.InputError, match=message):
        solve(CASES["mlp"].risk(), curvature="hessian")


@pytest.mark.parametrize("num_probes", [1, 0, -3])
def test_fewer_than_two_probes_are_refused(num_probes: int):
    message = rf"tic\.solve\.num_probes: found {num_probes}, expected at least 2"
    with pytest.raises(gt.InputError, match=message):
        solve(CASES["mlp"].risk(), num_probes=num_probes)


@pytest.mark.parametrize("preconditioner", PRECONDITIONERS)
def test_without_damping_weight_decay_is_enough(preconditioner: str):
    risk = CASES["skip"].risk()
    found = solve(risk, damping=0.0, rtol=1e-9, preconditioner=preconditioner)
    wanted = exact(risk, damping=0.0)
    assert abs(found.value - wanted.value) < 4 * found.stderr
    assert found.stats["effective_rank"] == pytest.approx(risk.num_params, rel=1e-12)


@pytest.mark.parametrize("preconditioner", PRECONDITIONERS)
def test_trap_10_a_singular_curvature_without_damping_is_refused(preconditioner: str):
    message = r"damping: found 0 without weight decay, expected more than 0; .* use tic\.exact"
    with pytest.raises(gt.InputError, match=message):
        solve(CASES["mlp"].risk(), damping=0.0, preconditioner=preconditioner)


def test_trap_30_float32_agrees_with_float64():
    for name in ("scalar", "embedding"):
        single, double = (solve(CASES[name].risk(dtype=d)) for d in (torch.float32, None))
        assert single.value == pytest.approx(double.value, rel=1e-3)
