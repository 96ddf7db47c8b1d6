"""Information criteria and evidence, against closed forms, dense matrices and scikit-learn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import CASES, Case, truth
from scipy import stats
from sklearn.linear_model import BayesianRidge
from torch import Tensor, nn

import gentheory as gt
from gentheory import losses
from gentheory.checkpoint import Checkpoint
from gentheory.factors.kronecker import Eigenbasis, kronecker
from gentheory.measures import baselines, tic
from gentheory.middles import middle_of
from gentheory.seeds import generator

ANY = generator(0)


def drawn(n: int, dims: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dims, generator=stream, dtype=torch.float64)
    noise = torch.randn(n, 1, generator=stream, dtype=torch.float64)
    return x, x.sum(1, keepdim=True) + noise


def normal_loss(precision: float) -> losses.PerExample:
    """Negative log-density of a normal with this precision, constant included."""

    def values(outputs: Tensor, targets: Tensor) -> Tensor:
        return (precision * (outputs - targets).square()[:, 0] - math.log(precision / math.tau)) / 2

    return values


def linear(x: Tensor, y: Tensor, theta: Tensor, loss: object = "mse", **options: float):
    net = nn.Linear(x.shape[1], 1, bias=False).double()
    return Checkpoint(gt.EmpiricalRisk(net, loss, (x, y), theta=theta, **options))


def ridge(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.solve(x.T @ x + penalty * eye, x.T @ y)[:, 0]


def test_the_evidence_of_bayesian_regression_is_exact():
    """Against scikit-learn's score and against the density of y, whose covariance is known."""
    x, y = drawn(30, 4)
    given = {"alpha_1": 0, "alpha_2": 0, "lambda_1": 0, "lambda_2": 0, "tol": 1e-12}
    fitted = BayesianRidge(fit_intercept=False, compute_score=True, max_iter=1000, **given)
    fitted.fit(x.numpy(), y[:, 0].numpy())
    theta = torch.from_numpy(fitted.coef_)
    checkpoint = linear(x, y, theta, normal_loss(float(fitted.alpha_)))
    for precision in (float(fitted.lambda_), "best"):
        found = baselines.laplace_exact(checkpoint, prior_precision=precision, generator=ANY)
        assert found.stats["log_evidence"] == pytest.approx(fitted.scores_[-1], rel=1e-9)
        assert found.stats["prior_precision"] == pytest.approx(fitted.lambda_, rel=1e-6)
        assert not found.warnings
    covariance = (x @ x.T / fitted.lambda_ + torch.eye(30).double() / fitted.alpha_).numpy()
    density = stats.multivariate_normal(np.zeros(30), covariance).logpdf(y[:, 0].numpy())
    assert found.value == pytest.approx(-density / 30, rel=1e-9)
    assert found.value == pytest.approx(found.stats["fit"] + found.stats["occam_factor"])


def test_weight_decay_is_the_prior_of_the_evidence():
    x, y = drawn(30, 4)
    theta = ridge(x, y, 0.2 * 30 / 2)  # of the loss |y - xθ|² and 0.2 / 2 |θ|²
    checkpoint = linear(x, y, theta, weight_decay=0.2)
    found = baselines.laplace_exact(checkpoint, generator=ANY)
    assert found.stats["prior_precision"] == pytest.approx(6)
    assert found.stats["newton_decrement"] < 1e-12
    covariance = (x @ x.T / 6 + torch.eye(30).double() / 2).numpy()  # "mse": a variance of 1/2
    density = stats.multivariate_normal(np.zeros(30), covariance).logpdf(y[:, 0].numpy())
    assert found.value == pytest.approx(-density / 30 - math.log(math.pi) / 2, rel=1e-10)


@pytest.mark.parametrize("name", ["laplace", "laplace_diagonal", "laplace_exact"])
def test_evidence_is_that_of_the_dense_matrices(name: str, case: Case):
    risk, dense = case.risk(), truth(case.name)
    h = dense.ggn - case.weight_decay * torch.eye(len(dense.ggn), dtype=torch.float64)
    if name == "laplace":
        basis = Eigenbasis.of(kronecker(risk, middle_of(risk, "ggn", generator(0))))
        h = basis.vectors(basis.curvature * basis.coordinates(torch.eye(len(h)).double()))
    elif name == "laplace_diagonal":
        h = h.diagonal().diag()
    measure = getattr(baselines, name)
    found = measure(Checkpoint(risk), prior_precision=0.7, generator=ANY)
    n, eye = risk.num_examples, torch.eye(len(h), dtype=torch.float64)
    occam = torch.linalg.slogdet(n * h / 0.7 + eye)[1] + 0.7 * dense.theta.square().sum()
    assert found.value == pytest.approx(float(dense.losses.mean() + occam / (2 * n)), rel=1e-8)
    trace = torch.linalg.solve(n * h + 0.7 * eye, n * h).trace()
    assert found.stats["effective_parameters"] == pytest.approx(float(trace), rel=1e-7)


@pytest.mark.parametrize("name", ["laplace", "laplace_diagonal", "laplace_exact"])
def test_the_best_prior_precision_is_a_maximum(name: str):
    checkpoint, measure = Checkpoint(CASES["mlp"].risk()), getattr(baselines, name)
    best = measure(checkpoint, generator=ANY)
    assert best == measure(checkpoint, prior_precision="best", generator=ANY)
    tau = best.stats["prior_precision"]
    for factor in (0.01, 0.9, 1.1, 100.0):
        other = measure(checkpoint, prior_precision=factor * tau, generator=ANY)
        assert other.value > best.value


def test_away_from_the_mode_the_evidence_warns():
    x, y = drawn(30, 4)
    checkpoint = linear(x, y, torch.zeros(4).double() + 0.1, weight_decay=0.2)
    assert "not at a mode" in baselines.laplace_exact(checkpoint, generator=ANY).warnings[0]


def test_parameters_of_zero_have_no_best_precision():
    x, y = drawn(30, 4)
    zero, flat = torch.zeros(4).double(), torch.zeros(30, 4).double()
    with pytest.raises(gt.InputError, match="parameters that are all zero"):
        baselines.laplace(linear(x, y, zero), generator=ANY)
    with pytest.raises(gt.InputError, match="no curvature at all"):
        baselines.laplace(linear(flat, y, zero + 1), generator=ANY)
    with pytest.raises(gt.InputError, match=r"prior_precision: found -1, .* above 0"):
        baselines.laplace(linear(x, y, zero), prior_precision=-1.0, generator=ANY)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.weight_decay])
def test_gic_by_hand(name: str):
    """tr(R⁻¹ Q) with each example's score and penalized score."""
    case = CASES[name]
    dense = truth(case.name)
    penalized = dense.gradients
    scores = penalized - case.weight_decay * dense.theta
    q = penalized.T @ scores / len(scores)
    expected = torch.linalg.solve(dense.ggn, q).trace() / len(scores)
    found = baselines.gic(Checkpoint(case.risk()), generator=ANY)
    assert found.value == pytest.approx(float(expected), rel=1e-8)
    assert found.stats["criterion"] == pytest.approx(float(dense.losses.mean() + expected))


def test_gic_is_tic_at_a_minimum_and_without_weight_decay():
    x, y = drawn(40, 3)
    decayed = linear(x, y, ridge(x, y, 0.3 * 40 / 2), weight_decay=0.3)
    one = baselines.gic(decayed, generator=ANY)
    assert one.value == pytest.approx(tic.exact(decayed, damping=0.0, generator=ANY).value)
    plain = Checkpoint(CASES["mlp"].risk())
    assert baselines.gic(plain, generator=ANY).value == tic.exact(plain, generator=ANY).value


def test_aic_is_the_mean_gap_where_the_model_holds_the_truth():
    """Targets drawn anew 400 times, of variance 1/2, the one that "mse" takes for granted."""
    x, _ = drawn(25, 5)
    stream = torch.Generator().manual_seed(4)
    train, test = torch.randn(2, 400, 25, 1, generator=stream, dtype=torch.float64) / 2**0.5
    theta = torch.linalg.lstsq(x.expand(400, -1, -1), train).solution
    gaps = ((x @ theta - test).square() - (x @ theta - train).square()).mean((1, 2))
    found = baselines.aic(linear(x, train[0], theta[0, :, 0]), generator=ANY)
    assert found.value == 5 / 25
    assert abs(gaps.mean() - found.value) < 3 * gaps.std() / 20
    loss = float((x @ theta[0] - train[0]).square().mean())
    assert found.stats["criterion"] == pytest.approx(loss + 0.2)


def test_bic_is_what_the_evidence_grows_by():
    """n (evidence − loss − BIC) settles, while each of them grows with log n."""
    rest: list[float] = []
    for n in (1000, 100_000):
        x, y = drawn(n, 3)
        checkpoint = linear(x, y, ridge(x, y, 0.0))
        bic = baselines.bic(checkpoint, generator=ANY)
        assert bic.value == pytest.approx(3 * math.log(n) / (2 * n))
        evidence = baselines.laplace_exact(checkpoint, prior_precision=1.0, generator=ANY)
        rest.append(n * (evidence.value - bic.stats["criterion"]))
    assert rest[0] == pytest.approx(rest[1], abs=0.1)


def test_a_gap_is_divided_by_the_examples_trained_on():
    checkpoint = replace(Checkpoint(CASES["mlp"].risk()), num_train=1200)
    found = baselines.aic(checkpoint, generator=ANY)
    assert found.value == checkpoint.risk.num_params / 1200
    bic = baselines.bic(checkpoint, generator=ANY)
    assert bic.value == pytest.approx(found.value * math.log(1200) / 2)


def test_training_loss_is_that_of_the_data_alone(case: Case):
    found = baselines.training_loss(Checkpoint(case.risk()), generator=ANY)
    dense = truth(case.name)
    assert found.value == pytest.approx(float(dense.losses.mean()), rel=1e-12)
    penalty = case.weight_decay / 2 * float(dense.theta.square().sum())
    assert found.stats["penalty"] == pytest.approx(penalty)


def test_counts_and_times():
    risk = CASES["tied modules"].risk()
    assert baselines.parameter_count(Checkpoint(risk), generator=ANY).value == risk.num_params
    timed = baselines.training_time(Checkpoint(risk, steps=7, training_time=0.5), generator=ANY)
    assert (timed.value, timed.stats) == (0.5, {"steps": 7})
    with pytest.raises(gt.InputError, match=r"training_time: found a checkpoint without"):
        baselines.training_time(Checkpoint(risk), generator=ANY)


@pytest.mark.parametrize("name", ["gic", "laplace_exact"])
def test_too_many_parameters_are_refused_with_the_way_out(name: str):
    with pytest.raises(gt.InputError, match=r"100 parameters.*Kronecker factors or by diagonals"):
        getattr(baselines, name)(Checkpoint(CASES["mlp"].risk()), max_params=9, generator=ANY)
