"""The criterion is training loss + measure, sees a training go by, and leaves no trace."""

import copy
import gc
import math
import re
import weakref

import pytest
import torch
from cases import Case
from torch import nn
from torch.nn import functional as F

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.pruning.criterion import Criterion, Plan, plain
from gentheory.seeds import seed_of

MEASURES = ("tic.exact", "tic.kfac", "tic.diagonal", "tic.trace_ratio", "tic.leave_one_out")
KEPT = {"damping": "training", "residuals": "training"}


def net(seed: int = 0, width: int = 6) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 3)).double()


def examples(count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 5, generator=stream, dtype=torch.float64)
    return inputs, torch.arange(count) % 3


def criterion(measure: str = "tic.kfac", data=None, **options) -> Criterion:
    return Criterion(measure, loss="cross_entropy", data=data or examples(), **options)


def trained(model: nn.Module, data, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()


@pytest.mark.parametrize("name", MEASURES)
def test_it_is_the_training_loss_plus_the_measure(name: str):
    found = criterion(name)(net(), step=3)
    risk = gt.EmpiricalRisk(net(), "cross_entropy", examples())
    gap = gt.measure(risk, name, seed=seed_of(0, "pruning", 3))[name]
    assert found.training_loss == pytest.approx(float(risk.value()), rel=1e-12)
    assert found.predicted_gap == gap.value > 0
    assert found.criterion == found.training_loss + gap.value
    assert (found.state, found.reason, found.stderr) == ("known", "", gap.stderr)
    assert (found.measure, found.num_examples) == (name, 20)
    assert found.seconds > 0


def test_every_kind_of_net_can_be_observed(case: Case):
    found = Criterion("tic.diagonal", loss=case.loss, data=case.data)(case.module, step=1)
    loss = float(case.risk(weight_decay=0.0).value())
    assert (found.state, found.training_loss) == ("known", pytest.approx(loss, rel=1e-9))


def test_the_gap_alone():
    found = criterion(quantity="gap")(net(), step=1)
    assert found.criterion == found.predicted_gap == criterion()(net(), step=1).predicted_gap


def test_a_bounded_gap_is_the_gap_near_0_and_below_one_unit_of_the_loss():
    gaps = np.array([-3.0, 0.0, 1e-9, 1.0, 1e9])
    assert bounded(gaps) == pytest.approx([-0.75, 0.0, 1e-9, 0.5, 1.0])
    assert bounded(0.25) == 0.2
    found = criterion(quantity="bounded")(net(), step=1)
    assert found.predicted_gap == criterion()(net(), step=1).predicted_gap
    assert found.criterion == found.training_loss + bounded(found.predicted_gap)


@pytest.mark.parametrize("given", ["always", "at the call"])
def test_weight_decay_is_of_the_gap_and_not_of_the_loss(given: str):
    always, at_the_call = (
        ({"weight_decay": 0.1}, {}) if given == "always" else ({}, {"weight_decay": 0.1})
    )
    found = criterion("tic.exact", **always)(net(), step=1, **at_the_call)
    risk = gt.EmpiricalRisk(net(), "cross_entropy", examples(), weight_decay=0.1)
    assert found.predicted_gap == gt.measure(risk, "tic.exact")["tic.exact"].value
    assert found.training_loss == criterion()(net(), step=1).training_loss


def test_the_estimate_is_the_gap_with_its_diagnostics():
    found = criterion("tic.exact").estimate(net())
    assert found.value == criterion("tic.exact")(net(), step=1).predicted_gap
    assert found.stats["num_examples"] == 20


@pytest.mark.parametrize("name", ["tic.kfac", "tic.leave_one_out"])
def test_nothing_is_left_behind(name: str):
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    model[0].eval()  # a part of its own
    data = (torch.randn(12, 1, 4, 4), torch.arange(12) % 3)
    F.cross_entropy(model(data[0]), data[1]).backward()
    before = copy.deepcopy(model)
    flags = [module.training for module in model.modules()]
    gradients = [(p.grad, p.grad.clone()) for p in model.parameters()]
    inputs, state = data[0].clone(), torch.get_rng_state()
    assert Criterion(name, loss="cross_entropy", data=data)(model, step=1).state == "known"
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == flags
    for (key, value), other in zip(
        before.state_dict().items(), model.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), key
        assert value.device == other.device
    for parameter, (gradient, values) in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, values)
        assert parameter.requires_grad
    assert torch.equal(data[0], inputs)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_off(mode):
    with mode():
        found = criterion("tic.leave_one_out")(net(), step=1)
    assert found.criterion == pytest.approx(criterion("tic.leave_one_out")(net(), step=1).criterion)


def test_where_autocast_is_on():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = criterion()(net().float(), step=1)
    assert found.criterion == pytest.approx(criterion()(net().float(), step=1).criterion, rel=1e-6)


def test_what_is_wrapped_around_a_model_is_taken_off():
    model = net()
    compiled = torch.compile(model, backend="eager")
    assert plain(nn.DataParallel(compiled)) is plain(compiled) is plain(model) is model


def test_a_subset_is_that_of_its_examples_over_all_that_were_trained_on():
    found = criterion("tic.exact", max_examples=7)(net(), step=1)
    asked = criterion("tic.exact", max_examples=7)
    part = asked.held.first(7)
    risk = gt.EmpiricalRisk(net(), "cross_entropy", (part.inputs, part.targets))
    assert found.training_loss == pytest.approx(float(risk.value()))
    gap = gt.measure(Checkpoint(risk, num_train=20), "tic.exact")["tic.exact"].value
    assert (found.predicted_gap, found.num_examples) == (gap, 7)
    assert asked(net(), step=1, plan=Plan("tic.diagonal", 3)).num_examples == 3
    of_more = criterion("tic.exact", max_examples=7, num_train=200)(net(), step=1)
    assert of_more.predicted_gap == pytest.approx(found.predicted_gap / 10)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_training_loss_that_is_not_finite_is_divergence(value: float):
    model = net()
    with torch.no_grad():
        model[2].bias[0] = value
    found = criterion()(model, step=1)
    assert found.state == "diverged"
    assert re.fullmatch("the training loss is (nan|inf)", found.reason)
    assert math.isnan(found.criterion)
    assert not math.isfinite(found.training_loss)


def test_a_measure_that_does_not_apply_leaves_the_criterion_unknown():
    found = criterion("tic.exact", max_params=5)(net(), step=1)
    assert found.state == "unknown"
    assert "expected at most max_params = 5" in found.reason
    assert math.isnan(found.criterion)
    assert math.isfinite(found.training_loss)


def test_a_measure_that_breaks_leaves_the_criterion_unknown(monkeypatch: pytest.MonkeyPatch):
    def broken(*_, **__):
        raise KeyError("a mistake")

    monkeypatch.setattr("gentheory.measures.tic.diagonals", broken)
    found = criterion("tic.ekfac")(net(), step=1)
    assert (found.state, found.reason) == ("unknown", "failed: KeyError: 'a mistake'"[8:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "tic.nothing"}, "found 'tic.nothing', expected one of"),
        ({"dampening": 0.1}, "found 'dampening', expected one of"),
        ({"damping": "train"}, "found damping = 'train'"),
        ({"quantity": "loss"}, "found 'loss', expected one of criterion, bounded, gap"),
        ({"max_examples": 0}, "max_examples: found 0, expected at least 1"),
        ({"data": iter([])}, "which can be read once at most"),
    ],
)
def test_what_cannot_be_used_is_told_at_once(options: dict, message: str):
    with pytest.raises(gt.InputError, match=message):
        criterion(**options)


def test_draws_depend_on_the_seed_and_the_step_alone():
    options = {"curvature": "sampled_fisher"}
    asked = criterion(**options)
    first = [asked(net(), step=step).criterion for step in (1, 2)]
    torch.manual_seed(5)
    again = [criterion(**options)(net(), step=step).criterion for step in (2, 1)]
    assert first == again[::-1]
    assert first[0] != first[1]
    assert criterion(**options, seed=1)(net(), step=1).criterion != first[0]


def residuals(model: nn.Module, data) -> torch.Tensor:
    with torch.no_grad():
        return model(data[0]).softmax(1) - F.one_hot(data[1], 3)


def test_residuals_are_averaged_over_learning_rate_time():
    data, model = examples(), net()
    asked = criterion("tic.leave_one_out", **KEPT)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)
    times, seen = [], []
    for epoch in range(1, 5):
        optimizer.param_groups[0]["lr"] = 0.2 / epoch
        trained(model, data, optimizer, steps=epoch)
        times.append(epoch * 0.2 / epoch / (1 - 0.5))
        seen.append(residuals(model, data))
        if epoch == 2:
            asked.follow(model, step=epoch)
        else:
            found = asked(model, step=epoch)
    total = times[0] * seen[0]  # the first look stands for all before it
    total += sum(t * (a + b) / 2 for t, a, b in zip(times[1:], seen, seen[1:], strict=False))
    mean, time = total / sum(times), sum(times)
    by_hand = gt.trajectory.Trajectory(
        torch.tensor([time]).double(), mean[None], mean[None, :, 0], torch.zeros(1, 1)
    )
    risk = gt.EmpiricalRisk(model, "cross_entropy", data)
    checkpoint = Checkpoint(risk, training_time=time, trajectory=by_hand)
    gap = gt.measure(checkpoint, "tic.leave_one_out", options={"tic.leave_one_out": KEPT})
    assert found.predicted_gap == pytest.approx(gap["tic.leave_one_out"].value, rel=1e-10)
    assert found.predicted_gap != pytest.approx(
        criterion("tic.leave_one_out")(model, step=4).predicted_gap
    )


def test_a_look_before_the_first_step_adds_the_start():
    data, model = examples(), net()
    asked = criterion("tic.leave_one_out", residuals="training")
    start = residuals(model, data)
    asked.follow(model, step=0, training_time=0.0)
    trained(model, data, torch.optim.SGD(model.parameters(), lr=1.0))
    asked.follow(model, step=1, training_time=3.0)
    kept = asked._courses[model].residuals
    torch.testing.assert_close(kept.mean[0], (start + residuals(model, data)) / 2)
    asked.follow(model, step=1, training_time=3.0)
    torch.testing.assert_close(asked._courses[model].residuals.mean[0], kept.mean[0])


def test_without_an_optimizer_of_torch_steps_weigh_the_residuals():
    data, model = examples(), net()
    asked = criterion("tic.leave_one_out", residuals="training")
    seen = [residuals(model, data)]
    asked.follow(model, step=1)
    with torch.no_grad():
        model[0].weight += 1
    seen.append(residuals(model, data))
    asked.follow(model, step=4)
    expected = (seen[0] + 3 * (seen[0] + seen[1]) / 2) / 4
    torch.testing.assert_close(asked._courses[model].residuals.mean[0], expected)


def test_the_course_of_training_in_one_window_of_left_out():
    model, data = net(), examples()
    asked = criterion("tic.left_out")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for epoch in (1, 2):
        trained(model, data, optimizer)
        found = asked(model, step=epoch)
    assert (found.state, found.reason) == ("known", "")


@pytest.mark.parametrize("given", ["training_time", "optimizer", "nothing"])
def test_learning_rate_time_is_found_or_given(given: str):
    data, model = examples(), net()
    asked = criterion("tic.exact", damping="training")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trained(model, data, optimizer)
    hints = {"training_time": {"training_time": 1.5}, "optimizer": {"optimizer": optimizer}}
    found = asked.estimate(model, step=1, **hints.get(given, {}))
    assert found.stats["absolute_damping"] == pytest.approx(1 / 1.5)


@pytest.mark.parametrize("named", [False, True])
def test_no_way_to_know_the_learning_rate_time_is_told(named: bool):
    model = net()
    hints = {"optimizer": torch.optim.SGD(model.parameters(), lr=0.5)} if named else {}
    with pytest.raises(gt.InputError, match="found no learning-rate time of this model"):
        criterion("tic.exact", damping="training")(model, step=1, **hints)


def test_a_fresh_trial_with_the_same_module_begins_anew():
    data, model = examples(), net()
    asked = criterion("tic.leave_one_out", residuals="training")
    asked.follow(model, step=5, trial=0)
    with torch.no_grad():
        model[0].weight += 1
    asked.follow(model, step=5, trial=1)
    torch.testing.assert_close(asked._courses[model].residuals.mean[0], residuals(model, data))
    with torch.no_grad():
        model[0].weight += 1
    asked.follow(model, step=1, trial=1)  # a lower step is another training too
    torch.testing.assert_close(asked._courses[model].residuals.mean[0], residuals(model, data))


def test_models_are_not_kept_alive():
    asked, models = criterion("tic.leave_one_out", **KEPT), []
    for trial in range(50):
        model = net()
        models.append(weakref.ref(model))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trained(model, examples(), optimizer, steps=1)
        asked.follow(model, step=1, trial=trial)
        del model, optimizer
    gc.collect()
    assert [reference() for reference in models] == [None] * 50
    assert len(asked._courses) == 0
    assert len(asked._learning_time._times) == 0
