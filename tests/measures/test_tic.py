"""TIC against linear solves, its bounds and limits, and models where its value is known."""

import math
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from cases import CASES, Case, truth
from torch import Tensor, nn
from torch.nn import functional as F

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.measures import tic
from gentheory.seeds import generator

pytestmark = pytest.mark.usefixtures("untraced")

MEASURES = {"exact": tic.exact, "diagonal": tic.diagonal, "trace_ratio": tic.trace_ratio}


def run(name: str, risk: gt.EmpiricalRisk, seed: int = 0, **options: Any) -> gt.Estimate:
    return MEASURES[name](Checkpoint(risk), generator=generator(seed), **options)


def matrices(case: Case, curvature: str, centred: bool) -> tuple[Tensor, Tensor]:
    dense = truth(case.name)
    return getattr(dense, curvature), dense.centred if centred else dense.covariance


def curvatures(case: Case) -> list[str]:
    return ["ggn"] if case.likelihood is None else ["ggn", "fisher"]


def test_other_dampings_cost_no_other_eigendecomposition(monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[int, ...]] = []
    eigh = torch.linalg.eigh

    def counted(matrix: Tensor) -> Any:
        seen.append(tuple(matrix.shape))
        return eigh(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", counted)
    risk = CASES["mlp"].risk()
    values = {run("exact", risk, damping=damping).value for damping in (1e-3, 1e-2, 0.1)}
    run("exact", risk, centred=True, truncated=True)
    assert (len(values), seen) == (3, [(100, 100)])
    run("exact", risk, curvature="fisher")
    run("exact", CASES["mlp"].risk(theta=2 * risk.theta))
    assert seen == [(100, 100)] * 3


# Against the oracle, on every tiny net.


@pytest.mark.parametrize("centred", [False, True])
def test_exact_is_a_linear_solve(case: Case, centred: bool):
    for curvature in curvatures(case):
        h, c = matrices(case, curvature, centred)
        options = {"curvature": curvature, "centred": centred}
        for damping in (1e-3, 0.5):
            expected = oracle.tic(h, c, case.count, damping=damping, absolute=False)
            found = run("exact", case.risk(), damping=damping, **options)
            assert found.value == pytest.approx(expected, rel=1e-8)
            assert (found.stderr, found.status) == (0.0, "ok")
        expected = oracle.tic(h, c, case.count, damping=0.02, absolute=True)
        found = run("exact", case.risk(), absolute_damping=0.02, **options)
        assert found.value == pytest.approx(expected, rel=1e-8)
        assert found.stats["absolute_damping"] == 0.02


@pytest.mark.parametrize("centred", [False, True])
def test_diagonal_is_a_sum_of_ratios(case: Case, centred: bool):
    for curvature in curvatures(case):
        h, c = (m.diagonal().numpy() for m in matrices(case, curvature, centred))
        expected = np.sum(c / (h + 0.01 * h.max())) / case.count
        found = run("diagonal", case.risk(), curvature=curvature, centred=centred, damping=0.01)
        assert found.value == pytest.approx(expected, rel=1e-9)
        assert found.stats["largest_eigenvalue"] == pytest.approx(h.max(), rel=1e-10)


@pytest.mark.parametrize("centred", [False, True])
def test_trace_ratio_is_the_ratio_of_dense_traces(case: Case, centred: bool):
    for curvature in curvatures(case):
        h, c = (m.trace().item() for m in matrices(case, curvature, centred))
        found = run("trace_ratio", case.risk(), curvature=curvature, centred=centred)
        assert found.stats["trace_curvature"] == pytest.approx(h, rel=1e-10)
        assert found.stats["trace_covariance"] == pytest.approx(c, rel=1e-9)
        assert found.value == pytest.approx(c / h / case.count, rel=1e-9)
        assert found.stderr == 0.0


def test_diagonal_is_never_below_the_trace_ratio(case: Case):
    risk = case.risk()
    assert run("diagonal", risk, damping=0.0).value >= run("trace_ratio", risk).value * (1 - 1e-12)


def test_statistics_of_exact(case: Case):
    dense = truth(case.name)
    h, g = dense.ggn.numpy(), dense.mean_gradient.numpy()
    values = np.abs(np.linalg.eigvalsh(h))
    absolute = 0.01 * values.max()
    stats = run("exact", case.risk(), damping=0.01).stats
    damped = h + absolute * np.eye(len(h))
    assert stats["raw_trace"] == pytest.approx(np.trace(np.linalg.solve(damped, dense.covariance)))
    assert stats["effective_rank"] == pytest.approx(np.sum(values / (values + absolute)), rel=1e-9)
    assert stats["newton_decrement"] == pytest.approx(g @ np.linalg.solve(damped, g) / 2, rel=1e-8)
    assert stats["gradient_norm"] == pytest.approx(np.linalg.norm(g), rel=1e-10)
    assert stats["damping"] == pytest.approx(0.01, rel=1e-12)
    assert (stats["num_params"], stats["num_examples"]) == (len(h), case.count)


@pytest.mark.parametrize("name", ["exact", "diagonal"])
@pytest.mark.parametrize("damping", [1e-4, 1e-2, 1.0])
def test_trap_8_slope_in_the_logarithm_of_the_damping(name: str, damping: float):
    risk, step = CASES["skip"].risk(), 1e-4
    up, down = (run(name, risk, damping=damping * math.exp(s)).value for s in (step, -step))
    found = run(name, risk, damping=damping).stats["slope_log_damping"]
    assert found == pytest.approx((up - down) / (2 * step), rel=1e-6)
    assert found < 0


# The Hessian, whose eigenvalues may be negative.


def test_trap_9_negative_eigenvalues_count_by_their_size():
    dense = truth("gelu residual")
    values, vectors = np.linalg.eigh(dense.hessian.numpy())
    assert values[0] < -0.1 * values[-1]
    size = np.abs(values)
    c = np.sum(vectors * (dense.covariance.numpy() @ vectors), axis=0)
    expected = np.sum(c / (size + 1e-3 * size.max())) / 9
    found = run("exact", CASES["gelu residual"].risk(), curvature="hessian")
    assert found.value == pytest.approx(expected, rel=1e-8)
    assert found.stats["negative_mass"] == pytest.approx(-values[values < 0].sum() / size.sum())
    h = dense.hessian.diagonal().abs()
    expected = float((dense.covariance.diagonal() / (h + 1e-3 * h.max())).sum() / 9)
    found = run("diagonal", CASES["gelu residual"].risk(), curvature="hessian")
    assert found.value == pytest.approx(expected, rel=1e-8)


def test_trace_ratio_of_the_hessian_covers_its_probes():
    dense = truth("mlp")
    expected = (dense.covariance.trace() / dense.hessian.trace()).item() / 12
    risk = CASES["mlp"].risk(batch_size=12)
    estimates = [
        run("trace_ratio", risk, seed, curvature="hessian", num_probes=128) for seed in range(60)
    ]
    scores = np.array([(e.value - expected) / e.stderr for e in estimates])
    assert abs(scores.mean()) < 4 / math.sqrt(60)
    assert 0.75 < scores.std() < 1.3


class Bent(nn.Module):
    """A loss that is concave in its only parameter: the curvature is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight.square()).unsqueeze(1)


def concave(outputs: Tensor, targets: Tensor) -> Tensor:
    return -outputs[:, 0]


def test_trap_9_no_ratio_of_a_negative_trace():
    risk = gt.EmpiricalRisk(Bent(), concave, (torch.ones(4).double(), torch.zeros(4)))
    result = gt.measure(
        risk, ["tic.trace_ratio"], options={"tic.trace_ratio": {"curvature": "hessian"}}
    )["tic.trace_ratio"]
    assert result.status == "refused"
    assert "found a curvature of trace -2, expected a positive trace" in result.reason


# Links to other quantities.


@pytest.mark.parametrize("damping", [1e-3, 0.1])
def test_with_the_curvature_as_covariance_it_is_the_soft_rank(damping: float):
    """At a model that predicts its own labels' frequencies, C is the Fisher: tr((F + λ)⁻¹F)."""
    x = torch.randn(6, 3, generator=generator("soft rank"), dtype=torch.float64)
    net = nn.Linear(3, 1).double()
    with torch.no_grad():
        net.weight.zero_()
        net.bias.zero_()
    # Every input once with either label, at probability 1/2.
    data = (x.repeat(2, 1), torch.arange(2).repeat_interleave(6))
    estimate = run("exact", gt.EmpiricalRisk(net, logistic, data), damping=damping)
    assert estimate.stats["raw_trace"] == pytest.approx(estimate.stats["effective_rank"], rel=1e-9)
    assert estimate.stats["gradient_norm"] < 1e-15
    assert estimate.warnings == ()


def logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary logistic loss: of one output, so that no direction of the parameters is free."""
    return F.binary_cross_entropy_with_logits(
        outputs[:, 0], targets.to(outputs.dtype), reduction="none"
    )


@pytest.mark.parametrize("name", ["exact", "diagonal", "trace_ratio"])
def test_trap_4_batches_and_duplicated_data(name: str):
    """The raw trace is a ratio of means: doubling the data halves the predicted gap."""
    x, y = CASES["mlp"].data
    net = CASES["mlp"].module
    one = run(name, gt.EmpiricalRisk(net, "cross_entropy", (x, y), batch_size=5))
    two = run(name, gt.EmpiricalRisk(net, "cross_entropy", (x.repeat(2, 1), y.repeat(2))))
    assert two.stats["raw_trace"] == pytest.approx(one.stats["raw_trace"], rel=1e-10)
    assert two.value == pytest.approx(one.value / 2, rel=1e-10)


@pytest.mark.parametrize("name", ["exact", "diagonal", "trace_ratio"])
def test_trap_20_the_scale_of_the_loss(name: str):
    """With c · loss, C grows by c² and H by c: so does the predicted gap, in units of the loss."""

    def tripled(outputs: Tensor, targets: Tensor) -> Tensor:
        return 3 * F.cross_entropy(outputs, targets, reduction="none")

    net, data = CASES["mlp"].module, CASES["mlp"].data
    one = run(name, gt.EmpiricalRisk(net, "cross_entropy", data))
    three = run(name, gt.EmpiricalRisk(net, tripled, data))
    assert three.value == pytest.approx(3 * one.value, rel=1e-10)


# Models for which the value is known.


def fitted_logistic(x: Tensor, y: Tensor) -> nn.Module:
    """Logistic regression without bias at its maximum likelihood, by Newton's method."""
    w = torch.zeros(x.shape[1], dtype=torch.float64)
    for _ in range(30):
        p = (x @ w).sigmoid()
        w = w - torch.linalg.solve((x.T * (p * (1 - p))) @ x, x.T @ (p - y))
    net = nn.Linear(x.shape[1], 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(w[None])
    return net


def draw(count: int, weights: Tensor, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, len(weights), generator=stream, dtype=torch.float64)
    p = (x @ weights).sigmoid()
    return x, (torch.rand(count, generator=stream, dtype=torch.float64) < p).double()


def test_trap_8_well_specified_logistic_regression_has_as_many_parameters_as_trace():
    """H = C at the truth; at 20,000 examples the trace is P up to its standard error."""
    weights, stream = torch.tensor([1.0, -0.5, 0.8, 0.3]).double(), generator("specified")
    traces = []
    for _ in range(8):
        x, y = draw(20_000, weights, stream)
        risk = gt.EmpiricalRisk(fitted_logistic(x, y), logistic, (x, y), batch_size=20_000)
        estimate = run("exact", risk, damping=0.0)
        traces.append(estimate.stats["raw_trace"])
        assert estimate.stats["gradient_norm"] < 1e-12
    error = np.std(traces, ddof=1) / math.sqrt(8)
    assert abs(np.mean(traces) - 4) < 3 * error
    assert error < 0.05


def test_trap_8_mean_gap_over_resamples_is_the_predicted_one():
    """E[L_test − L_train] = P / n + O(1/n²), and TIC / n estimates it; n = 200, P = 4."""
    weights, stream = torch.tensor([1.0, -0.5, 0.8, 0.3]).double(), generator("resamples")
    count, gaps, predicted = 200, [], []
    held_out = draw(200_000, weights, stream)
    for repeat in range(250):
        x, y = draw(count, weights, stream)
        net = fitted_logistic(x, y)
        with torch.no_grad():
            on_train, on_test = (logistic(net(a), b).mean().item() for a, b in ((x, y), held_out))
            truth_on_train = logistic((x @ weights)[:, None], y).mean().item()
            truth_on_test = logistic((held_out[0] @ weights)[:, None], held_out[1]).mean().item()
        # Less the gap of the true parameters, whose mean is 0: a control variate.
        gaps.append((on_test - truth_on_test) - (on_train - truth_on_train))
        if repeat < 40:
            risk = gt.EmpiricalRisk(net, logistic, (x, y))
            predicted.append(run("exact", risk, damping=0.0).value)
    error = np.std(gaps, ddof=1) / math.sqrt(len(gaps))
    # Three standard errors and the next order of the expansion, (P / n)² and a small factor.
    assert abs(np.mean(gaps) - 4 / count) < 3 * error + 4 * (4 / count) ** 2
    assert np.mean(predicted) == pytest.approx(4 / count, rel=0.1)


def test_least_squares_in_closed_form():
    """One linear layer under mse: H = 2/C xᵀx/N ⊗ I, and C from the residuals."""
    stream = generator("least squares")
    x = torch.randn(30, 3, generator=stream, dtype=torch.float64)
    y = torch.randn(30, 1, generator=stream, dtype=torch.float64)
    w = torch.linalg.lstsq(x, y).solution
    net = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(w.T)
    r = (y - x @ w)[:, 0]
    inverse = torch.linalg.inv(x.T @ x / 30)
    # (2xxᵀ)⁻¹ (2r)² xxᵀ = 2 r² xᵀ(xᵀx)⁻¹x: residuals weighed by their leverage
    expected = 2 * float(sum(r[i] ** 2 * x[i] @ inverse @ x[i] for i in range(30)) / 30) / 30
    assert run("exact", gt.EmpiricalRisk(net, "mse", (x, y)), damping=0.0).value == pytest.approx(
        expected, rel=1e-10
    )


# Where it must not be trusted, and says so.


@pytest.mark.parametrize("name", MEASURES)
def test_trap_11_a_warning_off_the_minimum(name: str):
    x, y = draw(500, torch.tensor([1.0, -0.5]).double(), generator("off"))
    net = fitted_logistic(x, y)
    assert run(name, gt.EmpiricalRisk(net, logistic, (x, y))).warnings == ()
    with torch.no_grad():
        net.weight += 0.5
    moved = run(name, gt.EmpiricalRisk(net, logistic, (x, y)))
    assert moved.warnings == ("not at a minimum: the Newton decrement is above the predicted gap",)
    assert moved.stats["newton_decrement"] > moved.value


def test_trap_10_without_damping_rounding_is_no_curvature():
    """24 of 100 directions have curvature; 1e-17 / 1e-17 in the others is not a gap."""
    dense = truth("mlp")
    found = run("exact", CASES["mlp"].risk(), damping=0.0)
    assert found.stats["effective_rank"] == 24
    inverse = np.linalg.pinv(dense.ggn.numpy(), rcond=1e-11, hermitian=True)
    assert found.value == pytest.approx(np.trace(inverse @ dense.covariance.numpy()) / 12, rel=1e-7)
    assert found.stats["slope_log_damping"] == 0


def test_trap_17_dead_parameters_add_nothing():
    risk = CASES["unused"].risk(weight_decay=0.0)
    net = CASES["unused"].module
    net.spare.requires_grad_(False)
    without = gt.EmpiricalRisk(net, "cross_entropy", CASES["unused"].data)
    for name in MEASURES:
        assert run(name, risk).value == pytest.approx(run(name, without).value, rel=1e-10)


@pytest.mark.parametrize("name", MEASURES)
def test_a_model_that_gives_nan_has_failed(name: str):
    """A sum that skips nan would make it 0."""
    net = CASES["mlp"].module
    with torch.no_grad():
        net[4].bias[0] = torch.nan
    net[4].bias.requires_grad_(False)
    risk = gt.EmpiricalRisk(net, "cross_entropy", CASES["mlp"].data)
    estimate = gt.measure(risk, [f"tic.{name}"])[f"tic.{name}"]
    assert estimate.status == "failed"
    assert math.isnan(estimate.value)


@pytest.mark.parametrize("name", ["exact", "diagonal"])
def test_no_curvature_at_all_is_refused(name: str):
    def flat(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum(1)

    risk = gt.EmpiricalRisk(CASES["linear net"].module, flat, CASES["linear net"].data)
    estimate = gt.measure(risk, [f"tic.{name}"])[f"tic.{name}"]
    assert (estimate.status, "found zero everywhere" in estimate.reason) == ("refused", True)


def test_trap_39_too_many_parameters_are_refused_before_anything_is_computed():
    risk = CASES["mlp"].risk()
    with pytest.raises(
        gt.InputError, match=r"tic\.exact: found 100 parameters, which take about 0\.0"
    ):
        run("exact", risk, max_params=99)
    assert run("exact", risk, max_params=100).status == "ok"


@pytest.mark.parametrize("name", MEASURES)
def test_trap_7_one_draw_of_targets_has_an_unknown_error(name: str):
    risk = CASES["mlp"].risk()
    first = run(name, risk, curvature="sampled_fisher")
    assert math.isnan(first.stderr)
    assert first.stats["curvature"] == "sampled_fisher"
    assert first.value == run(name, risk, curvature="sampled_fisher").value
    assert first.value != run(name, risk, seed=1, curvature="sampled_fisher").value


def test_trap_7_sampled_traces_average_to_the_expected_one():
    risk = CASES["mlp"].risk(batch_size=12)
    traces = [
        run("trace_ratio", risk, seed, curvature="sampled_fisher").stats["trace_curvature"]
        for seed in range(100)
    ]
    error = np.std(traces, ddof=1) / 10
    assert abs(np.mean(traces) - truth("mlp").fisher.trace().item()) < 3 * error


@pytest.mark.parametrize("name", MEASURES)
def test_float32_and_float64_agree(name: str):
    single = run(name, CASES["conv"].risk(dtype=torch.float32))
    assert single.value == pytest.approx(run(name, CASES["conv"].risk()).value, rel=1e-4)


@pytest.mark.parametrize("name", MEASURES)
def test_an_unknown_curvature_is_refused(name: str):
    with pytest.raises(gt.InputError, match="curvature: found 'kfac', expected 'ggn', 'fisher'"):
        run(name, CASES["mlp"].risk(), curvature="kfac")
