"""The tangent kernel's measures against dense Jacobians, scikit-learn and closed forms."""

import math
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from cases import CASES, Case, initial_of, trajectory_of, truth
from scipy import stats
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor, nn

import gentheory as gt
from gentheory import losses, measures, models
from gentheory.checkpoint import Checkpoint
from gentheory.data.recipe import Recipe
from gentheory.estimate import Estimate
from gentheory.measures import ntk
from gentheory.params import flatten, load_flat
from gentheory.seeds import generator
from gentheory.tangent import KernelRegression, Sample, Spectrum, kernel_of, predictions
from gentheory.tangent import distance as kernel_distance
from gentheory.training.loop import Plan, train

SMOOTH = ["tied functional", "layer norm", "attention", "twice", "scalar", "gelu residual"]


def measured(checkpoint: Checkpoint, name: str, seed: int = 0, **options: Any) -> Estimate:
    full = f"ntk.{name}"
    return gt.measure(checkpoint, full, seed=seed, options={full: options})[full]


def checkpoint_of(case: Case) -> Checkpoint:
    risk = case.risk()
    return Checkpoint(risk, initial_of(risk), trajectory=trajectory_of(risk))


def jacobians(case: Case, theta: Tensor | None = None) -> Tensor:
    """[N, C, P] by plain loops, at other parameters if given."""
    if theta is None:
        return truth(case.name).jacobians
    module = case.module
    load_flat(module, theta)
    return oracle.dense(module, case.values, *case.data, likelihood=None).jacobians


def trace_kernel(case: Case, theta: Tensor | None = None) -> np.ndarray[Any, Any]:
    jacobian = jacobians(case, theta)
    return (torch.einsum("icp,jcp->ij", jacobian, jacobian) / jacobian.shape[1]).numpy()


def one_hot(case: Case) -> np.ndarray[Any, Any]:
    targets = case.data[1]
    return np.eye(case.num_classes)[targets] if targets.dim() == 1 else targets.numpy()


def cosine(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def test_spectrum(case: Case):
    kernel = trace_kernel(case)
    values = np.linalg.eigvalsh(kernel)[::-1] / len(kernel)
    found = measured(checkpoint_of(case), "spectrum")
    assert found.value == pytest.approx(values[0], rel=1e-10)
    np.testing.assert_allclose(found.stats["eigenvalues"], values, atol=1e-11 * values[0])
    assert found.stats["trace"] == pytest.approx(np.trace(kernel) / len(kernel), rel=1e-10)
    kept = values[values > len(kernel) * 2.3e-16 * values[0]]
    p = kept / kept.sum()
    rank = measured(checkpoint_of(case), "effective_rank")
    assert rank.value == pytest.approx(np.exp(stats.entropy(p)), rel=1e-9)
    assert rank.stats["participation_ratio"] == pytest.approx(1 / (p**2).sum(), rel=1e-9)
    assert min(values) > -1e-12 * values[0]  # trap 33: positive semidefinite


@pytest.mark.parametrize("name", SMOOTH)
def test_condition_number(name: str):
    kernel = trace_kernel(CASES[name])
    found = measured(checkpoint_of(CASES[name]), "condition_number")
    if found.stats["rank"] == len(kernel):
        assert found.value == pytest.approx(np.linalg.cond(kernel), rel=1e-6)
        assert not found.warnings
    else:
        (warning,) = found.warnings
        assert warning.startswith("singular to rounding: rank")


def test_a_kernel_of_low_rank_says_so():
    """Four distinct inputs, each three times: rank four at most."""
    net = nn.Linear(5, 3).double()
    x = torch.randn(4, 5, generator=generator("x"), dtype=torch.float64).repeat(3, 1)
    risk = gt.EmpiricalRisk(net, "cross_entropy", (x, torch.arange(12) % 3))
    found = measured(Checkpoint(risk), "condition_number")
    once = (x[:4] @ x[:4].T + 1).numpy()  # a linear layer's kernel, for its weights and its bias
    assert found.value == pytest.approx(np.linalg.cond(once), rel=1e-9)
    assert found.warnings == ("singular to rounding: rank 4 of 12",)


@pytest.mark.parametrize("at", ["trained", "initial"])
def test_alignment(case: Case, at: str):
    checkpoint = checkpoint_of(case)
    kernel = trace_kernel(case, None if at == "trained" else checkpoint.initial)
    y = one_hot(case)
    labels, centre = y @ y.T, np.eye(len(y)) - 1 / len(y)
    found = measured(checkpoint, "alignment", at=at)
    assert found.value == pytest.approx(cosine(centre @ kernel @ centre, centre @ labels @ centre))
    assert found.stats["raw"] == pytest.approx(cosine(kernel, labels), rel=1e-10)


def test_alignment_of_one_output_is_the_quadratic_form():
    x = torch.randn(20, 5, generator=generator("x"), dtype=torch.float64)
    y = x[:, 0].sign()
    net = nn.Linear(5, 1, bias=False).double()
    risk = gt.EmpiricalRisk(net, lambda f, t: (f[:, 0] - t).square(), (x, y))
    kernel, y = (x @ x.T).numpy(), y.numpy()
    found = measured(Checkpoint(risk), "alignment")
    wanted = y @ kernel @ y / (np.linalg.norm(kernel) * (y @ y))
    assert found.stats["raw"] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", [*SMOOTH, "conv", "embedding tied"])
def test_distance_and_velocity(name: str):
    case = CASES[name]
    checkpoint = checkpoint_of(case)
    assert checkpoint.initial is not None
    assert checkpoint.trajectory is not None
    before, after = trace_kernel(case, checkpoint.initial), trace_kernel(case)
    found = measured(checkpoint, "distance")
    assert found.value == pytest.approx(1 - cosine(before, after), rel=1e-8)
    ratio = np.linalg.norm(after) / np.linalg.norm(before)
    assert found.stats["norm_ratio"] == pytest.approx(ratio, rel=1e-9)
    change = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert found.stats["relative_change"] == pytest.approx(change, rel=1e-9)
    middle = trace_kernel(case, checkpoint.trajectory.parameters[0])
    found = measured(checkpoint, "velocity")
    assert found.value == pytest.approx((1 - cosine(middle, after)) / 10, rel=1e-6)
    assert found.stats["since"] == "window"
    without = Checkpoint(checkpoint.risk, checkpoint.initial, training_time=4.0)
    found = measured(without, "velocity")
    assert found.value == pytest.approx((1 - cosine(before, after)) / 4, rel=1e-8)
    assert found.stats["since"] == "initialization"


@pytest.mark.parametrize("name", [*SMOOTH, "conv", "embedding tied"])
def test_linearization_error(name: str):
    case = CASES[name]
    checkpoint = checkpoint_of(case)
    initial = checkpoint.initial
    assert initial is not None
    module = case.module.eval()
    with torch.no_grad():
        after = module(case.data[0])
        load_flat(module, initial)
        change = after - module(case.data[0])
    moved = checkpoint.risk.theta - initial
    start, end = jacobians(case, initial) @ moved, jacobians(case) @ moved
    found = measured(checkpoint, "linearization_error")
    assert found.value == pytest.approx(float((change - start).norm() / change.norm()), rel=1e-9)
    expected = {
        "at_end": (change - end).norm() / change.norm(),
        "of_outputs": (change - start).norm() / after.norm(),
        "cosine": (change * start).sum() / (change.norm() * start.norm()),
        "cosine_at_end": (change * end).sum() / (change.norm() * end.norm()),
        "change": change.norm() / len(change) ** 0.5,
    }
    assert found.stats == pytest.approx({key: float(v) for key, v in expected.items()}, rel=1e-9)


def test_a_linear_model_is_its_own_linearization():
    x = torch.randn(20, 5, generator=generator("x"), dtype=torch.float64)
    net = nn.Linear(5, 3).double()
    risk = gt.EmpiricalRisk(net, "cross_entropy", (x, torch.arange(20) % 3))
    checkpoint = Checkpoint(risk, torch.zeros_like(risk.theta), training_time=1.0)
    for name in ("distance", "velocity", "linearization_error"):
        assert measured(checkpoint, name).value == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("at", ["trained", "initial"])
@pytest.mark.parametrize("name", ["mlp", "attention", "gelu residual"])
def test_kernel_regression_leave_one_out_by_scikit_learn(name: str, at: str):
    case = CASES[name]
    checkpoint = checkpoint_of(case)
    theta = None if at == "trained" else checkpoint.initial
    kernel, targets, module = trace_kernel(case, theta), one_hot(case), case.module.eval()
    ridge = 1e-2 * np.trace(kernel) / len(kernel)
    with torch.no_grad():
        trained = module(case.data[0]).numpy()
        load_flat(module, initial_of(checkpoint.risk))
        offset = module(case.data[0]).numpy() if at == "initial" else 0 * trained
    left_out = np.empty_like(targets)
    for i in range(len(kernel)):
        others = np.delete(np.arange(len(kernel)), i)
        fit = KernelRidge(alpha=ridge, kernel="precomputed")
        fit.fit(kernel[np.ix_(others, others)], (targets - offset)[others])
        left_out[i] = offset[i] + fit.predict(kernel[i : i + 1, others])[0]
    fit = KernelRidge(alpha=ridge, kernel="precomputed").fit(kernel, targets - offset)
    fitted = offset + fit.predict(kernel)
    found = measured(checkpoint, "kernel_regression", at=at, ridge=1e-2)
    assert found.value == np.mean(left_out.argmax(1) == trained.argmax(1))
    agreement = np.mean(fitted.argmax(1) == trained.argmax(1))
    assert found.stats["training_agreement"] == agreement
    assert found.stats["accuracy"] == np.mean(left_out.argmax(1) == targets.argmax(1))
    assert found.stats["squared_error"] == pytest.approx(np.mean((left_out - targets) ** 2))


def test_predictions_for_new_examples_by_scikit_learn():
    case = CASES["conv"]
    x, y = case.data
    rows = jacobians(case)
    kernel = (torch.einsum("icp,jcp->ij", rows, rows) / 3).numpy()
    train_risk, new = (
        gt.EmpiricalRisk(case.module, "cross_entropy", part)
        for part in ((x[:5], y[:5]), (x[5:], y[5:]))
    )
    with torch.no_grad():
        outputs = case.module.eval()(x).numpy()
    fit = KernelRidge(alpha=0.3, kernel="precomputed")
    fit.fit(kernel[:5, :5], one_hot(case)[:5] - outputs[:5])
    wanted = outputs[5:] + fit.predict(kernel[5:, :5])
    found = predictions(train_risk, new, ridge=0.3)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)


def test_large_output_scales_are_lazy():
    """Parameters move by 1/α (Chizat et al. 2019); terms of that order cancel by symmetry.

    So the linearization error falls as 1/α², and 1 − cosine of the kernels as its square.
    """
    data = Recipe("digits", n_train=30).train()
    found: list[list[float]] = []
    for scale in (10.0, 100.0):
        options = {"output_scale": scale, "symmetrized": True, "parametrization": "ntk"}
        options |= {"width": 10, "depth": 2, "activation": "tanh"}
        net = models.build("mlp", shape=(1, 8, 8), num_classes=10, options=options, seed=0).double()
        start, rate = flatten(net), torch.tensor([1.0 / scale**2])
        plan = Plan(60, 30, rate, torch.zeros(1), torch.zeros(1))
        trained = train(net, losses.mse, start[None], data, plan, [generator(0)])
        assert trained.curve[-1, 0] < 0.8 * trained.curve[0, 0]
        pair = (data.inputs.double(), data.targets)
        risk = gt.EmpiricalRisk(net, "mse", pair, theta=trained.theta[0])
        checkpoint = Checkpoint(risk, start)
        names = ("distance", "linearization_error")
        found.append([measured(checkpoint, name).value for name in names])
    for (before, after), power in zip(zip(*found, strict=True), (4, 2), strict=True):
        assert before / after == pytest.approx(10.0**power, rel=0.1)


@pytest.fixture(scope="module")
def population() -> Checkpoint:
    """400 examples, of which measures draw 120."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3)).double()
    x = torch.randn(400, 6, generator=generator("x"), dtype=torch.float64)
    y = (x[:, :3] + 0.5 * x[:, 3:]).argmax(1)
    risk = gt.EmpiricalRisk(net, "cross_entropy", (x, y))
    noise = torch.randn(risk.num_params, generator=generator("noise"), dtype=torch.float64)
    return Checkpoint(risk, risk.theta + 0.3 * noise, training_time=2.0)


def test_the_error_of_a_subset_is_calibrated(population: Checkpoint):
    drawn = [measured(population, "alignment", seed, max_examples=80) for seed in range(200)]
    values, errors = (np.array([getattr(e, f) for e in drawn]) for f in ("value", "stderr"))
    scores = (values - values.mean()) / errors
    assert stats.kstest(scores, "norm").pvalue > 0.01
    assert all(e.stats["num_examples"] == 80 for e in drawn)
    whole = measured(population, "alignment")
    assert whole.stderr == 0
    assert abs(values.mean() - whole.value) < errors.mean()


STATISTICS = {
    "largest eigenvalue": lambda k, _: float(Spectrum.of(k, k.dtype).eigenvalues[0]),
    "effective rank": lambda k, _: Spectrum.of(k, k.dtype).effective_rank,
    "distance": kernel_distance,
}


@pytest.mark.parametrize("name", STATISTICS)
def test_the_jackknife_of_a_subset_is_calibrated(population: Checkpoint, name: str):
    risk, statistic = population.risk, STATISTICS[name]
    assert population.initial is not None
    start = Sample.of(risk, 400, generator(0)).at(population.initial)
    after, before = kernel_of(risk, 2**30), kernel_of(start, 2**30)
    found: list[tuple[float, float]] = []
    for seed in range(200):
        chosen = torch.randperm(400, generator=generator("chosen", seed))[:80]
        one, other = after[chosen][:, chosen], before[chosen][:, chosen]
        sample = Sample(risk, 400, torch.randperm(80, generator=generator("order", seed)))
        error = sample.stderr(lambda i, a=one, b=other: statistic(a[i][:, i], b[i][:, i]))
        found.append((statistic(one, other), error))
    values, errors = np.array(found).T
    scores = (values - values.mean()) / errors
    assert stats.kstest(scores, "norm").pvalue > 0.01


def test_a_subset_has_no_error_for_its_smallest_eigenvalue(population: Checkpoint):
    found = measured(population, "condition_number", max_examples=50)
    assert math.isnan(found.stderr)
    assert found.stats["num_examples"] == 50


def test_the_error_of_agreement_on_a_subset(population: Checkpoint):
    found = measured(population, "kernel_regression", max_examples=100)
    p = found.value
    assert 0 < p < 1
    assert found.stderr == pytest.approx(math.sqrt(p * (1 - p) / 100 * (1 - 100 / 400)))


def test_the_initial_kernel_distrusts_what_looks_explained_at_zeros_only():
    """At zeros a tied weight's gradient vanishes, and its layer looks like any other."""
    case = CASES["tied functional"]
    risk = case.risk()
    theta = torch.zeros_like(risk.theta)
    theta[risk.layout.slices["last.bias"]] = 1.0
    checkpoint = Checkpoint(risk, theta)
    wanted = 1 - cosine(trace_kernel(case, theta), trace_kernel(case))
    assert measured(checkpoint, "distance").value == pytest.approx(wanted, rel=1e-8)


LINEAR = gt.EmpiricalRisk(
    nn.Linear(2, 2, bias=False).double(),
    "cross_entropy",
    (torch.eye(2).double(), torch.zeros(2).long()),
)
ZERO = gt.EmpiricalRisk(
    nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double(),
    "cross_entropy",
    (torch.eye(2).double(), torch.arange(2)),
    theta=torch.zeros(8).double(),
)
ALIKE = gt.EmpiricalRisk(
    nn.Linear(2, 2).double(), "cross_entropy", (torch.ones(4, 2).double(), torch.arange(4) % 2)
)


@pytest.mark.parametrize(
    ("name", "risk", "options", "message"),
    [
        ("distance", LINEAR, {}, r"ntk\.distance: found no initial parameters, .*; hand in Check"),
        ("linearization_error", LINEAR, {}, r"ntk\.linearization_error: found no initial"),
        ("kernel_regression", LINEAR, {}, r"ntk\.kernel_regression: found no initial"),
        ("spectrum", LINEAR, {"at": "initial"}, r"ntk\.spectrum: found no initial"),
        ("spectrum", LINEAR, {"at": "end"}, r"ntk\.spectrum\.at: found 'end', expected 'trained'"),
        ("velocity", LINEAR, {}, "ntk.velocity: found neither a trajectory nor a training time"),
        ("alignment", LINEAR, {}, "found targets or a kernel that are the same for all examples"),
        ("alignment", ALIKE, {}, "found targets or a kernel that are the same for all examples"),
        ("spectrum", ZERO, {}, "tangent kernel: found zeros only: no output depends on any"),
        ("spectrum", LINEAR, {"max_examples": 1}, r"ntk\.max_examples: found 1, expected 2"),
        (
            "kernel_regression",
            ALIKE,
            {"at": "trained", "ridge": 0.0},
            r"ntk\.kernel_regression\.ridge: found 0, with which the kernel is singular",
        ),
        ("kernel_regression", LINEAR, {"ridge": -1.0}, r"ridge: found -1\.0, expected 0 or more"),
    ],
)
def test_trap_39_refusals(name: str, risk: gt.EmpiricalRisk, options: dict[str, Any], message: str):
    with pytest.raises(gt.InputError, match=message):
        measures.find(f"ntk.{name}")(Checkpoint(risk), generator=generator(0), **options)


def test_trap_39_a_kernel_beyond_the_budget():
    checkpoint = Checkpoint(CASES["mlp"].risk())
    with pytest.raises(gt.InputError, match="tangent kernel: found 12 × 12 numbers, which take"):
        ntk.spectrum(checkpoint, max_memory=8 * 143, generator=generator(0))


def test_nothing_moved():
    with pytest.raises(gt.InputError, match="found outputs that changed by 0 since init"):
        ntk.linearization_error(Checkpoint(LINEAR, LINEAR.theta), generator=generator(0))


def test_left_out_is_fitting_without_the_example():
    x = torch.randn(8, 3, generator=generator("x"), dtype=torch.float64)
    kernel, y = x @ x.T + 1, x.sin()
    found = KernelRegression.of(kernel, y, 0.1).left_out()
    for i in range(8):
        others = torch.arange(8) != i
        fit = KernelRegression.of(kernel[others][:, others], y[others], 0.1)
        torch.testing.assert_close(found[i], fit.predict(kernel[i : i + 1, others])[0])
