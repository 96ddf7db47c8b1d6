"""Leave-one-out and TIC in sample space: definitions, closed forms, and real retraining."""

import math
import re
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
from gentheory.left_out import without_example_at_the_end

STATS = ("raw_trace", "damping", "absolute_damping", "slope_log_damping", "effective_rank")


def one(name: str, subject: gt.EmpiricalRisk | Checkpoint, **options: object) -> Estimate:
    estimate = gt.measure(subject, name, options={name: options})[name]
    assert estimate.status == "ok", estimate.reason
    return estimate


@pytest.mark.parametrize("centred", [False, True])
def test_kernel_equals_exact(case: Case, centred: bool):
    exact, kernel = (one(f"tic.{k}", case.risk(), centred=centred) for k in ("exact", "kernel"))
    assert kernel.value == pytest.approx(exact.value, rel=1e-8)
    for name in (*STATS, "gradient_norm", "newton_decrement"):
        assert kernel.stats[name] == pytest.approx(exact.stats[name], rel=1e-7), name


def test_kernel_with_more_parameters_than_samples():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3)).double()
    data = (torch.randn(9, 6, dtype=torch.float64), torch.arange(9) % 3)
    for decay in (0.0, 0.03):
        risk = gt.EmpiricalRisk(net, "cross_entropy", data, weight_decay=decay)
        assert risk.num_params > 27
        exact, kernel = one("tic.exact", risk), one("tic.kernel", risk)
        assert kernel.value == pytest.approx(exact.value, rel=1e-8)
        for name in STATS:
            assert kernel.stats[name] == pytest.approx(exact.stats[name], rel=1e-7), name


def by_definition(case: Case, ridge: float, residuals: Tensor | None = None) -> float:
    """The mean over examples of loss(f_i + (I − A_i Λ_i)⁻¹ A_i r_i) − loss(f_i), one by one."""
    risk = case.risk(batch_size=512)
    h = gt.ggn(risk).dense() + ridge * torch.eye(risk.num_params, dtype=torch.float64)
    inputs, targets = next(risk.batches())
    gaps = []
    for i in range(len(inputs)):
        x, y = inputs[i : i + 1], targets[i : i + 1]
        jacobian = torch.func.jacrev(lambda t, x=x: risk.outputs(t, x)[0])(risk.theta)
        f = risk.outputs(risk.theta, x)
        a = jacobian @ torch.linalg.inv(h) @ jacobian.T / len(inputs)
        r = risk.loss.gradient(f, y)[0] if residuals is None else residuals[i]
        middle = risk.loss.hessian(f, y)[0]
        shift = torch.linalg.inv(torch.eye(len(a), dtype=torch.float64) - a @ middle) @ a @ r
        gaps.append(float(risk.loss.values(f + shift, y) - risk.loss.values(f, y)))
    return math.fsum(gaps) / len(gaps)


def test_the_definition(case: Case):
    found = one("tic.leave_one_out", case.risk(), absolute_damping=0.07)
    assert found.value == pytest.approx(by_definition(case, 0.07), rel=1e-8)
    assert 0 <= found.stats["largest_leverage"] < 1


def test_the_first_order_term_is_tic(case: Case):
    # Weight decay aside: removing an example removes its loss, not the penalty.
    risk = gt.EmpiricalRisk(case.module, case.loss, case.data)
    first_order = one("tic.leave_one_out", risk).stats["first_order"]
    assert first_order == pytest.approx(one("tic.exact", risk).value, rel=1e-8)


def ridge_problem() -> tuple[np.ndarray, np.ndarray, float]:
    random = np.random.default_rng(0)
    x = random.normal(size=(15, 4))
    return x, x @ random.normal(size=4) + random.normal(size=15), 0.3


def solution(x: np.ndarray, y: np.ndarray, decay: float, count: int) -> np.ndarray:
    """Minimum of Σ (x·w − y)² / count + decay / 2 |w|²."""
    return np.linalg.solve(2 * x.T @ x / count + decay * np.eye(x.shape[1]), 2 * x.T @ y / count)


def test_ridge_regression_retrained_without_each_example():
    x, y, decay = ridge_problem()
    net = nn.Linear(4, 1, bias=False).double()
    net.weight.data = torch.tensor(solution(x, y, decay, 15))[None]
    data = (torch.tensor(x), torch.tensor(y)[:, None])
    risk = gt.EmpiricalRisk(net, "mse", data, weight_decay=decay)
    gaps = []
    for i in range(15):
        kept = np.arange(15) != i
        without = solution(x[kept], y[kept], decay, 15)
        gaps.append(
            (x[i] @ without - y[i]) ** 2
            - float((x[i] @ net.weight[0].detach().numpy() - y[i]) ** 2)
        )
    found = one("tic.leave_one_out", risk, absolute_damping=0.0)
    assert found.value == pytest.approx(np.mean(gaps), rel=1e-10)


def test_training_damping_and_training_residuals():
    case = CASES["mlp"]
    risk = case.risk()
    kept = trajectory_of(risk)
    subject = Checkpoint(risk, training_time=12.5, trajectory=kept)
    found = one("tic.leave_one_out", subject, damping="training", residuals="training")
    assert found.stats["absolute_damping"] == pytest.approx(1 / 12.5)
    plain = one("tic.leave_one_out", risk, absolute_damping=1 / 12.5)
    assert one("tic.leave_one_out", subject, damping="training").value == plain.value
    assert found.value == pytest.approx(by_definition(case, 1 / 12.5, kept.mean_residuals))
    assert found.value != pytest.approx(plain.value)


@pytest.mark.parametrize("change", ["none", "of fewer examples", "without a step"])
def test_residuals_of_training_that_were_not_kept_are_refused(change: str):
    risk, kept = CASES["mlp"].risk(), trajectory_of(CASES["mlp"].risk())
    if change == "of fewer examples":
        kept = replace(kept, residuals=kept.residuals[:, 1:], traces=kept.traces[:, 1:])
    if change == "without a step":
        kept = replace(kept, time=0 * kept.time)
    subject = Checkpoint(risk, trajectory=None if change == "none" else kept)
    options = {"tic.leave_one_out": {"residuals": "training"}}
    found = gt.measure(subject, "tic.leave_one_out", options=options)["tic.leave_one_out"]
    assert found.status == "refused"
    assert "no trajectory of training on these examples, expected one of the same" in found.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": "training"}, "without training time, expected one that knows it"),
        ({"max_size": 5}, "which take .* GiB, expected at most max_size = 5"),
    ],
)
def test_what_was_not_kept_is_refused(options: dict[str, object], message: str):
    found = gt.measure(
        CASES["mlp"].risk(), "tic.leave_one_out", options={"tic.leave_one_out": options}
    )
    assert found["tic.leave_one_out"].status == "refused"
    assert re.search(message, found["tic.leave_one_out"].reason)


def test_examples_stand_for_all_that_were_trained_on():
    """Half of the pull on the parameters, for twice as many examples of the same curvature."""
    risk = CASES["mlp"].risk()
    one, half = (
        without_example_at_the_end(
            Checkpoint(risk, num_train=count),
            damping=0.1,
            absolute_damping=None,
            residuals="final",
            curvature="final",
            outputs="together",
            max_size=6000,
        )
        for count in (None, 2 * risk.num_examples)
    )
    assert relative_error(2 * half.shifts, one.shifts) < 1e-12


APART = {"damping": "training", "outputs": "apart"}


def test_outputs_apart_are_solved_one_by_one():
    case = CASES["mlp"]
    risk = case.risk()
    subject = Checkpoint(risk, training_time=3.0)
    x, y = risk.joined()
    jacobian = torch.func.jacrev(lambda theta: risk.outputs(theta, x))(risk.theta)  # [N, C, P]
    f = risk.outputs(risk.theta, x).detach()
    p, n = f.softmax(-1), len(x)
    r = p - torch.nn.functional.one_hot(y, p.shape[1])
    shifts = torch.empty_like(f)
    ridge = torch.eye(risk.num_params, dtype=torch.float64) * (1 / 3 + risk.weight_decay)
    for c in range(f.shape[1]):
        rows, bend = jacobian[:, c], p[:, c] * (1 - p[:, c])
        inverse = torch.linalg.inv(rows.T @ (bend[:, None] * rows) / n + ridge)
        a = (rows @ inverse * rows).sum(1) / n
        shifts[:, c] = a * r[:, c] / (1 - a * bend)
    loss = torch.nn.functional.cross_entropy
    wanted = (loss(f + shifts, y) - loss(f, y)).item()
    found = one("tic.leave_one_out", subject, **APART)
    assert found.value == pytest.approx(wanted, rel=1e-9)
    assert found.stats["absolute_damping"] == pytest.approx(1 / 3)
    assert "damping" not in found.stats


@pytest.mark.parametrize("options", [{"damping": 0.01}, {"damping": "training"}])
def test_outputs_of_a_linear_net_with_squared_loss_are_apart(options: dict[str, object]):
    net = nn.Linear(4, 3).double()
    data = (
        torch.randn(11, 4, generator=torch.Generator().manual_seed(1)).double(),
        torch.arange(11) % 3,
    )
    risk = gt.EmpiricalRisk(net, "mse", data, weight_decay=0.02)
    subject = Checkpoint(risk, training_time=5.0)
    together = one("tic.leave_one_out", subject, **options)
    apart = one("tic.leave_one_out", subject, outputs="apart", **options)
    assert apart.value == pytest.approx(together.value, rel=1e-9)
    for name in ("absolute_damping", "first_order", "largest_leverage"):
        assert apart.stats[name] == pytest.approx(together.stats[name], rel=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, "no damping and no weight decay, expected one of them; give a damping"),
        ({"max_size": 3}, r"\d+ examples, expected at most max_size = 3 of them; use fewer"),
    ],
)
def test_trap_39_outputs_apart_are_refused_with_a_way_out(options: dict[str, object], message: str):
    chosen = {"tic.leave_one_out": {"outputs": "apart", **options}}
    found = gt.measure(CASES["mlp"].risk(), "tic.leave_one_out", options=chosen)
    assert found["tic.leave_one_out"].status == "refused"
    assert re.search(message, found["tic.leave_one_out"].reason)
