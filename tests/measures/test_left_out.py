"""Leave-one-out through time: the definition example by example, closed forms, retraining."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import CASES, Case, trajectory_of
from oracle import relative_error
from torch import Tensor, nn

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.estimate import Estimate
from gentheory.left_out import without_example
from gentheory.losses import one_hot
from gentheory.seeds import generator
from gentheory.trajectory import Trajectory


def measured(subject: Checkpoint, *, seed: int = 0, **options: object) -> Estimate:
    chosen = {"tic.left_out": options}
    return gt.measure(subject, "tic.left_out", seed=seed, options=chosen)["tic.left_out"]


def whole(risk: gt.EmpiricalRisk) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*risk.batches(), strict=True)
    return torch.cat(inputs), torch.cat(targets)


def jacobians(risk: gt.EmpiricalRisk, theta: Tensor) -> Tensor:
    x, _ = whole(risk)
    rows = [
        torch.func.jacrev(lambda t, i=i: risk.outputs(t, x[i : i + 1])[0])(theta)
        for i in range(len(x))
    ]
    return torch.stack(rows)


def middle(case: Case, risk: gt.EmpiricalRisk, window: Trajectory, i: int) -> Tensor:
    """Λ_i of a window: at the mean probabilities, or else at the window's end."""
    x, y = whole(risk)
    if case.loss == "cross_entropy":
        p = window.residuals[i] + one_hot(y, window.residuals)[i]
        found = torch.diag(p) - torch.outer(p, p)
    else:
        f = risk.outputs(window.parameters, x[i : i + 1])[0].detach()
        found = torch.autograd.functional.hessian(
            lambda f: case.values(f[None], y[i : i + 1])[0], f
        )
    return found * min(1.0, float(window.traces[i] / found.trace()))


def by_definition(case: Case, risk: gt.EmpiricalRisk, kept: Trajectory) -> Tensor:
    """What leaving each example out moves its outputs by: one P × P system a window and example."""
    d = torch.zeros(risk.num_examples, risk.num_params, dtype=torch.float64)
    n, eye = risk.num_examples, torch.eye(risk.num_params, dtype=torch.float64)
    for window in kept.windows():
        time, j = float(window.time), jacobians(risk, window.parameters)
        curved = [j[i].T @ middle(case, risk, window, i) @ j[i] / n for i in range(n)]
        total = torch.stack(curved).sum(0)
        for i in range(n):
            k = (1 + time * risk.weight_decay) * eye + time * (total - curved[i])
            d[i] = torch.linalg.solve(k, d[i] + time * j[i].T @ window.residuals[i] / n)
    return torch.stack([j @ d for j, d in zip(jacobians(risk, risk.theta), d, strict=True)])


def test_the_definition(case: Case):
    risk = case.risk()
    subject = Checkpoint(risk, trajectory=trajectory_of(risk))
    wanted = by_definition(case, risk, trajectory_of(risk))
    found = without_example(subject, max_examples=100, max_params=300, generator=generator(0))
    assert relative_error(found.shifts, wanted) < 1e-10
    x, y = whole(risk)
    f = risk.outputs(risk.theta, x).detach()
    gaps = case.values(f + wanted, y) - case.values(f, y)
    estimate = measured(subject)
    assert (estimate.status, estimate.stderr) == ("ok", 0.0)
    assert estimate.value == pytest.approx(gaps.mean().item(), rel=1e-8)
    assert estimate.stats["median"] == pytest.approx(gaps.median().item(), rel=1e-8, abs=1e-12)
    assert estimate.stats["num_left_out"] == len(x)
    assert estimate.stats["num_windows"] == 2
    assert 0 <= estimate.stats["largest_leverage"] < 1


def test_windows_that_training_did_not_reach_do_not_count():
    risk = CASES["mlp"].risk()
    kept = trajectory_of(risk)
    longer = Trajectory(*(torch.cat([t, t[:1]]) for t in kept.tensors().values()))
    longer.time[2] = 0
    longer.residuals[2] = longer.traces[2] = torch.nan
    one, other = (measured(Checkpoint(risk, trajectory=way)) for way in (kept, longer))
    assert one.value == other.value


def still(risk: gt.EmpiricalRisk, time: float) -> Trajectory:
    """One window that was spent at the trained parameters."""
    x, y = whole(risk)
    f = risk.outputs(risk.theta, x).detach()
    r, traces = risk.loss.gradient(f, y), risk.loss.hessian_trace(f, y)
    return Trajectory(torch.tensor([time]).double(), r[None], traces[None], risk.theta[None])


def test_one_window_at_the_end_is_ridge(case: Case):
    """With 1 / T beside the weight decay: `leave_one_out` at that damping."""
    risk = case.risk()
    found = measured(Checkpoint(risk, trajectory=still(risk, 12.5)))
    options = {"tic.leave_one_out": {"absolute_damping": 1 / 12.5}}
    wanted = gt.measure(risk, "tic.leave_one_out", options=options)["tic.leave_one_out"]
    assert found.value == pytest.approx(wanted.value, rel=1e-8)
    leverage = wanted.stats["largest_leverage"]
    assert found.stats["largest_leverage"] == pytest.approx(leverage, rel=1e-8)


X = np.random.default_rng(0).normal(size=(15, 4))
Y = X @ np.array([1.0, -2.0, 0.5, 0.0]) + np.random.default_rng(1).normal(size=15)
DECAY = 0.3


def regression(theta: np.ndarray) -> gt.EmpiricalRisk:
    net = nn.Linear(4, 1, bias=False).double()
    net.weight.data = torch.tensor(theta)[None]
    data = (torch.tensor(X), torch.tensor(Y)[:, None])
    return gt.EmpiricalRisk(net, "mse", data, weight_decay=DECAY)


def flow(kept: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Parameters at these times of the gradient flow from 0 of Σ_kept (x·w − y)² / 15 + decay."""
    x, y = X[kept], Y[kept]
    values, vectors = np.linalg.eigh(2 * x.T @ x / 15 + DECAY * np.eye(4))
    grown = -np.expm1(-np.outer(times, values)) / values
    return grown * (vectors.T @ (2 * x.T @ y / 15)) @ vectors.T


def retrained(time: float) -> float:
    """The mean gap of 15 trainings for this time, each without an example."""
    every, at = np.arange(15), np.array([time])
    full = X @ flow(every, at)[0] - Y
    without = [X[i] @ flow(every[every != i], at)[0] - Y[i] for i in range(15)]
    return float(np.mean(np.square(without) - np.square(full)))


def test_ridge_regression_retrained_without_each_example():
    """After so long a time that it has found the minimum; one window is the whole of it."""
    time = 1e11
    risk = regression(flow(np.arange(15), np.array([time]))[0])
    found = measured(Checkpoint(risk, trajectory=still(risk, time)))
    assert found.value == pytest.approx(retrained(time), rel=1e-8)


def test_more_windows_come_closer_to_stopping_early_without_each_example():
    """Implicit Euler: twice the windows, half the error."""
    total, errors = 2.0, []
    for count in (40, 80):
        ends = np.linspace(0, total, count + 1)[1:]
        path = flow(np.arange(15), np.concatenate([ends, ends - total / count / 2]))
        theta, middles = torch.tensor(path[:count]), path[count:]
        kept = Trajectory(
            torch.full((count,), total / count, dtype=torch.float64),
            torch.tensor(2 * (middles @ X.T - Y))[..., None],
            torch.full((count, 15), 2.0, dtype=torch.float64),
            theta,
        )
        found = measured(Checkpoint(regression(path[count - 1]), trajectory=kept))
        errors.append(abs(found.value / retrained(total) - 1))
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def many() -> Checkpoint:
    """More examples than are left out one by one."""
    stream = generator("left out")
    x = torch.randn(240, 5, generator=stream, dtype=torch.float64)
    y = (x[:, :3] + torch.randn(240, 3, generator=stream)).argmax(1)
    risk = gt.EmpiricalRisk(CASES["mlp"].module, "cross_entropy", (x, y), weight_decay=0.05)
    return Checkpoint(risk, trajectory=trajectory_of(risk))


def test_some_examples_estimate_what_all_of_them_give():
    subject = many()
    exact = measured(subject).value
    drawn = [measured(subject, seed=seed, max_examples=80) for seed in range(24)]
    assert all(e.stats["num_left_out"] == 80 for e in drawn)
    values = np.array([e.value for e in drawn])
    assert abs(values.mean() - exact) < 3 * values.std(ddof=1) / len(values) ** 0.5
    assert 0.7 < np.mean([e.stderr for e in drawn]) / values.std(ddof=1) < 1.4


def test_an_example_s_shift_does_not_depend_on_which_others_are_left_out():
    every, some = (
        without_example(many(), max_examples=m, max_params=100, generator=generator("some"))
        for m in (240, 80)
    )
    pairs = some.shifts[:, None] - every.shifts[None]
    distances = pairs.norm(dim=2).min(1).values
    assert distances.max() < 1e-12 * every.shifts.norm()


def test_the_seed_draws_the_examples_and_all_of_them_need_none():
    subject = many()
    few = [measured(subject, seed=seed, max_examples=80).value for seed in (1, 1, 2)]
    assert few[0] == few[1] != few[2]
    assert measured(subject, seed=1, max_examples=240) == measured(subject, seed=2)


def test_what_was_learned_counts_by_the_examples_trained_on():
    subject = many()
    other = replace(subject, num_train=480)
    assert measured(other).value < 0.6 * measured(subject).value


Change = Callable[[Trajectory], Trajectory | None]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda kept: None, {}, "no trajectory of training on these examples, expected one of"),
        (
            lambda kept: replace(kept, residuals=kept.residuals[:, :-1]),
            {},
            "no trajectory of training on these examples",
        ),
        (lambda kept: replace(kept, time=0 * kept.time), {}, "train with keep_trajectory, or meas"),
        (
            lambda kept: kept,
            {"max_params": 99},
            r"tic\.left_out: found 100 parameters, .*expected at most max_params = 99",
        ),
    ],
)
def test_what_is_refused(change: Change, options: dict[str, int], message: str):
    risk = CASES["mlp"].risk()
    found = measured(Checkpoint(risk, trajectory=change(trajectory_of(risk))), **options)
    assert found.status == "refused"
    assert re.search(message, found.reason)
