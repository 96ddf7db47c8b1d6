"""Stopping rules on synthetic series, on quadratics and on nets, against dense oracles."""

from typing import Any

import pytest
import torch
from oracle import relative_error
from torch import Tensor
from torch.nn import functional as F
from training_loops import CE, NET, plan, run, split, starts

from gentheory import models
from gentheory.data.split import Split
from gentheory.params import Layout, flatten
from gentheory.seeds import generator
from gentheory.training import looks
from gentheory.training.loop import Plan, train
from gentheory.training.stack import Task
from gentheory.training.state import State
from gentheory.training.stopping import CurvatureRule


def series(*, rise: int | None, epochs: int = 60, noise: float = 0.1) -> list[float]:
    """Around 1 until the curvature begins to double every two epochs."""
    values = 1 + noise * torch.randn(epochs, generator=generator("curvature", rise or 0))
    if rise is not None:
        values[rise:] *= 2 ** (torch.arange(1, epochs - rise + 1) / 2)
    return values.tolist()


def stopped(rule: CurvatureRule, values: list[float]) -> int | None:
    """The first epoch after which the rule stops."""
    ends = (epoch for epoch in range(1, len(values) + 1) if rule.stops(values[:epoch]))
    return next(ends, None)


@pytest.mark.parametrize("rise", [20, 33, 50])
def test_a_spike_in_noise_is_seen_soon_and_left_behind(rise: int):
    rule = CurvatureRule()
    end = stopped(rule, series(rise=rise))
    assert end is not None
    assert rise < end <= rise + 5
    assert end - rule.epochs_back <= rise


def test_noise_alone_goes_on():
    assert stopped(CurvatureRule(), series(rise=None, epochs=500)) is None


def test_one_value_out_of_line_is_not_a_rise_of_the_mean():
    values = [1.0] * 40
    values[25] = 2.2  # the mean of five rises by 0.24
    assert stopped(CurvatureRule(), values) is None
    values[25] = 2.6
    assert stopped(CurvatureRule(), values) == 26


def test_the_rule_by_hand():
    """Means of three values around each epoch, compared two epochs apart."""
    rule = CurvatureRule(ratio=2.0, window=3, lag=2, start=1)
    values = [1.0, 2.0, 3.0, 2.0, 7.0, 5.0]
    assert (rule.epochs_back, rule.earliest) == (3, 5)
    assert not rule.stops(values[:4])
    assert not rule.stops(values[:5])  # (3 + 2 + 7) / 3 = 4 is not above twice (1 + 2 + 3) / 3
    assert not rule.stops(values[:6])  # 14 / 3 against 7 / 3
    assert rule.stops([*values[:5], 5.1])


def test_nothing_is_returned_before_the_start():
    rule = CurvatureRule(start=10)
    values = series(rise=5, epochs=12)
    assert rule.earliest == 16
    assert stopped(rule, values) is None
    assert stopped(rule, series(rise=5, epochs=30)) == 16


def test_a_mean_that_is_not_above_zero_has_no_ratio():
    assert stopped(CurvatureRule(start=0), [-1.0] * 10 + [5.0] * 4) is None


DATA = split()
DECAY = torch.tensor([[0.3], [0.0], [0.05]], dtype=torch.float64)


def task(rows: Tensor | None = None) -> Task:
    return Task(NET, CE, DATA, rows)


def objective(theta: Tensor, decay: float, rows: Tensor) -> Tensor:
    tensors = Layout.of(NET).unflatten(theta)
    outputs = torch.func.functional_call(NET, tensors, (DATA.inputs[rows].double(),))
    return F.cross_entropy(outputs, DATA.targets[rows]) + decay / 2 * theta.square().sum()


@pytest.mark.parametrize("own_rows", [False, True])
def test_gradients_and_eigenvalues_are_those_of_the_dense_objective(own_rows: bool):
    theta, models_ = starts(3), torch.arange(3)
    rows = torch.stack([torch.arange(m, m + 18) for m in range(3)]) if own_rows else None
    norms = looks.gradient_norms(task(rows), models_, State(theta, {}, {}), DECAY)
    tops = looks.top_eigenvalues(task(rows), models_, State(theta, {}, {}), DECAY)
    for m in range(3):
        own = torch.arange(22) if rows is None else rows[m]
        args = (theta[m], float(DECAY[m]), own)
        gradient = torch.func.grad(objective)(*args)
        hessian = torch.func.hessian(objective)(*args)
        assert norms[m].item() == pytest.approx(gradient.norm().item(), rel=1e-10)
        assert tops[m].item() == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=0.02)
        assert tops[m] <= torch.linalg.eigvalsh(hessian)[-1] * (1 + 1e-10)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch):
    args = (task(), torch.arange(3), State(starts(3), {}, {}), DECAY)
    whole = looks.gradient_norms(*args)
    monkeypatch.setattr(looks, "_CHUNK", 3 * 5 * 4)  # four examples of five numbers for each model
    assert relative_error(looks.gradient_norms(*args), whole) < 1e-12


def test_a_stack_sees_what_its_models_see():
    state = State(starts(3), {}, {})
    for look in (looks.gradient_norms, looks.top_eigenvalues):
        together = look(task(), torch.arange(3), state, DECAY)
        for m in range(3):
            one = torch.tensor([m])
            assert (
                relative_error(look(task(), one, state.take(one), DECAY[one]), together[one])
                < 1e-10
            )


def test_a_model_stops_at_a_short_gradient():
    theta = starts(2)
    decay = {"weight_decay": torch.zeros(2)}
    norms = [
        looks.gradient_norms(task(), torch.arange(2), State(theta, {}, {}), torch.zeros(2, 1))
        for theta in (run(theta, plan([0.3, 0.3], epochs=e, **decay)).theta for e in range(1, 9))
    ]
    limit = sorted(float(each[0]) for each in norms)[3]
    trained = run(theta, plan([0.3, 0.3], epochs=8, stop_at_gradient_norm=limit, **decay))
    for m in range(2):
        first = next((e for e, each in enumerate(norms, 1) if each[m] <= limit), None)
        assert trained.outcomes[m] == ("finished" if first is None else "gradient")
        assert trained.steps[m] == 3 * (first or 8)
    assert "gradient" in trained.outcomes


def test_trap_3_decoupled_decay_is_in_no_objective():
    chosen: Any = {"weight_decay": torch.tensor([0.5, 0.1])}
    assert plan([0.1, 0.1], optimizer="adamw", **chosen).objective_decay.tolist() == [0, 0]
    for name in ("sgd", "adam", "sam"):
        decay = plan([0.1, 0.1], optimizer=name, **chosen).objective_decay
        assert torch.equal(decay, chosen["weight_decay"])


RULE = CurvatureRule(ratio=1.05, window=3, lag=2, start=1)


def test_a_model_goes_back_to_before_its_curvature_rose():
    theta, rates = starts(3), [0.5, 1e-6, 1e7]
    trained = run(theta, plan(rates, epochs=20, stop_at_curvature=RULE))
    assert trained.outcomes == ("curvature", "finished", "diverged")
    last = int(trained.curve[:, 0].isfinite().sum()) - 1
    values = []
    for epochs in range(1, last + RULE.epochs_back + 1):
        reached = run(theta, plan(rates, epochs=epochs)).theta[:1]
        decay = plan(rates).weight_decay[:1, None]
        found = looks.top_eigenvalues(task(), torch.arange(1), State(reached, {}, {}), decay)
        values.append(float(found))
    assert stopped(RULE, values) == last + RULE.epochs_back
    earlier = run(theta, plan(rates, epochs=last))
    assert torch.equal(trained.theta[0], earlier.theta[0])
    assert trained.steps[0] == earlier.steps[0] == 3 * last
    assert trained.training_time[0] == earlier.training_time[0]
    assert trained.curve[last + 1 :, 0].isnan().all()
    assert torch.equal(trained.curve[: last + 1, 0], earlier.curve[:, 0])


def test_running_statistics_go_back_too_and_looks_do_not_move_them():
    options = {"depth": 8, "norm": "batch", "width": 4}
    net = models.build("resnet", shape=(1, 6, 6), num_classes=3, options=options, seed=0)
    data = Split(torch.randn(12, 1, 6, 6, generator=generator(3)), torch.arange(12) % 3, 3, "x")
    columns = (torch.full((1,), 0.3), torch.zeros(1), torch.zeros(1))
    rule = CurvatureRule(ratio=1.0001, window=1, lag=1, start=0)
    theta, orders = flatten(net)[None], lambda: [generator("order", 0)]
    trained = train(net, CE, theta, data, Plan(8, 4, *columns, stop_at_curvature=rule), orders())
    assert trained.outcomes == ("curvature",)
    epochs = int(trained.steps[0]) // 3
    assert 0 < epochs < 8
    earlier = train(net, CE, theta, data, Plan(epochs, 4, *columns), orders())
    for name, found in earlier.statistics.items():
        assert torch.equal(found, trained.statistics[name])
