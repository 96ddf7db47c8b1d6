"""TIC in a study: what it records, what it decides, and by which plan."""

import gc
import math

import optuna
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gentheory as gt
from gentheory.optuna import TIC, TICPruner
from gentheory.optuna.channel import observations
from gentheory.pruning.budget import Budgeted
from gentheory.pruning.criterion import Criterion, Plan
from gentheory.pruning.observation import Observation

optuna.logging.set_verbosity(optuna.logging.WARNING)

EPOCHS = 9


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 5, generator=stream, dtype=torch.float64)
    return inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0.5).long()


DATA = examples()


def tic(measure: str = "tic.kfac", **options) -> TIC:
    return TIC(measure, loss="cross_entropy", data=DATA, **options)


def halving(factor: int = 3) -> TICPruner:
    return TICPruner(optuna.pruners.SuccessiveHalvingPruner(1, factor))


def study_of(pruner: optuna.pruners.BasePruner | None = None, **options) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(pruner=pruner or halving(), sampler=sampler, **options)


def net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def trained(asked: TIC, trial: optuna.Trial, **hints) -> nn.Module:
    """The twelve lines."""
    model = net(trial.number)
    rate = trial.suggest_float("rate", 1e-3, 3.0, log=True)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for epoch in range(1, EPOCHS + 1):
        for part in torch.arange(60).split(20):
            optimizer.zero_grad()
            F.cross_entropy(model(DATA[0][part]), DATA[1][part]).backward()
            optimizer.step()
        if asked.should_prune(trial, model, step=epoch, **hints):
            raise optuna.TrialPruned()
    return model


def run(asked: TIC, study: optuna.Study, trials: int = 12, **hints) -> optuna.Study:
    def objective(trial: optuna.Trial) -> float:
        return asked.criterion(trained(asked, trial, **hints), step=EPOCHS)

    study.optimize(objective, n_trials=trials)
    return study


def told(study: optuna.Study) -> list[tuple[str, dict[int, Observation]]]:
    return [(t.state.name, observations(t)) for t in study.trials]


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def test_some_trials_are_pruned_and_the_criterion_is_what_was_recorded():
    study = run(tic(), study_of())
    assert 3 < states(study).count("PRUNED") < 12
    for trial in study.trials:
        seen = observations(trial)
        assert all(each.state == "known" and each.seconds > 0 for each in seen.values())
        assert all(
            each.criterion == each.training_loss + each.predicted_gap for each in seen.values()
        )
        if trial.state.name == "COMPLETE" and EPOCHS in seen:
            assert trial.value == seen[EPOCHS].criterion
    assert any(EPOCHS in seen for _, seen in told(study))
    values = {t.number: t.user_attrs[f"gentheory:{t.number}:1"]["criterion"] for t in study.trials}
    assert max(observations(study.trials[min(values, key=values.get)])) > 1


def test_it_measures_where_the_pruner_looks_and_nowhere_else(monkeypatch: pytest.MonkeyPatch):
    steps, measure = [], Criterion.__call__

    def counted(self, model, **moment):
        steps.append((moment["trial"][1], moment["step"]))
        return measure(self, model, **moment)

    monkeypatch.setattr(Criterion, "__call__", counted)
    asked, study = tic(), study_of()
    study.optimize(lambda trial: trained(asked, trial) and 0.0, n_trials=6)
    assert steps == [(n, step) for n, (_, seen) in enumerate(told(study)) for step in seen]
    # Whatever wants no more steps than rungs: 1, 3, 9.
    assert {step for _, step in steps} <= {1, 3, 9}


@pytest.mark.parametrize("options", [{}, {"curvature": "sampled_fisher"}], ids=str)
def test_the_same_study_twice_decides_the_same(options: dict):
    twice = [run(tic(**options), study_of()) for _ in range(2)]
    kept = [
        [(state, {s: o.criterion for s, o in seen.items()}) for state, seen in told(study)]
        for study in twice
    ]
    assert kept[0] == kept[1]


def test_a_call_is_the_estimate_of_the_gap():
    asked, model = tic("tic.exact"), net()
    found = asked(model)
    assert isinstance(found, gt.Estimate)
    risk = gt.EmpiricalRisk(model, "cross_entropy", DATA)
    assert found.value == gt.measure(risk, "tic.exact")["tic.exact"].value
    assert asked.criterion(model) == pytest.approx(float(risk.value()) + found.value)
    assert tic("tic.exact", quantity="gap").criterion(model) == found.value


def test_the_gap_alone_can_decide():
    study = run(tic(quantity="gap"), study_of())
    for _, seen in told(study):
        assert all(each.criterion == each.predicted_gap for each in seen.values())


@pytest.mark.parametrize("hints", [{}, {"training_time": 1.0}], ids=str)
def test_leave_one_out_by_training_needs_nothing_else_of_the_loop(hints: dict):
    asked = tic("tic.leave_one_out", damping="training", residuals="training")
    study = run(asked, study_of(), **hints)
    for state, seen in told(study):
        assert state in ("COMPLETE", "PRUNED")
        assert all(each.state == "known" for each in seen.values())
    assert "PRUNED" in states(study)


def test_a_model_that_diverged_is_pruned():
    asked, study, model = tic(), study_of(), net()
    nn.init.constant_(model[2].bias, math.nan)
    trial = study.ask()
    assert asked.should_prune(trial, model, step=1)
    [found] = observations(study.trials[0]).values()
    assert (found.state, found.reason) == ("diverged", "the training loss is nan")
    assert math.isnan(asked.criterion(model))


def test_what_cannot_be_measured_goes_on_with_a_reason_in_the_log(caplog: pytest.LogCaptureFixture):
    asked, study = tic("tic.exact", max_params=5), study_of()
    trial = study.ask()
    assert not asked.should_prune(trial, net(), step=1)
    assert "expected at most max_params = 5" in caplog.text
    caplog.clear()
    assert math.isnan(asked.criterion(net()))
    assert "The criterion is unknown: tic.exact" in caplog.text


def test_several_objectives():
    study = study_of(directions=["minimize", "maximize"])
    asked = tic()
    study.optimize(lambda trial: (trained(asked, trial) and 0.0, 1.0), n_trials=8)
    assert "PRUNED" in states(study)


def test_a_study_without_the_pruner_is_refused():
    trial = study_of(optuna.pruners.SuccessiveHalvingPruner()).ask()
    with pytest.raises(gt.InputError, match=r"study\.pruner: found SuccessiveHalvingPruner"):
        tic().should_prune(trial, net(), step=1)


def test_a_fixed_trial_is_neither_measured_nor_pruned(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Criterion, "__call__", None)
    assert not tic().should_prune(optuna.trial.FixedTrial({}), net(), step=1)


def test_reported_values_are_the_criteria():
    study = run(tic(also_report=True), study_of(), 6)
    for trial in study.trials:
        seen = observations(trial)
        assert trial.intermediate_values == {step: o.criterion for step, o in seen.items()}
    assert run(tic(), study_of(), 2).trials[1].intermediate_values == {}


@pytest.mark.parametrize("directions", [["maximize"], ["minimize", "minimize"]], ids=str)
def test_what_cannot_be_reported_is_told(directions: list[str]):
    trial = study_of(directions=directions).ask()
    with pytest.raises(gt.InputError, match=f"also_report: found directions {directions[0]}"):
        tic(also_report=True).should_prune(trial, net(), step=1)


def test_a_ladder_without_a_budget_is_refused():
    with pytest.raises(gt.InputError, match=r"ladder: found .*, expected a budget"):
        tic(ladder=["tic.kfac", "tic.diagonal"])


def test_no_state_of_a_trial_stays():
    asked = tic("tic.leave_one_out", damping="training", residuals="training")
    run(asked, study_of(), 5)
    gc.collect()
    assert len(asked._criterion._courses) <= 1  # of the last, which a frame may still hold


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that are chosen, each with one example less than the one before."""
    chosen: list[Plan] = []

    def choose(self, model, meter, since, moment):
        chosen.append(Plan("tic.diagonal", 30 - len(chosen)))
        self.plan = chosen[-1]
        return Observation(math.nan, "unknown", "the plan was tried out at this step")

    monkeypatch.setattr(Budgeted, "_chosen", choose)
    return chosen


def free(**options) -> TIC:
    """With a budget that pays for anything once a plan is there."""
    return tic(max_overhead=1e6, **options)


def test_a_plan_is_chosen_once_a_study_and_kept_for_other_processes(planned: list[Plan]):
    study = study_of()
    run(free(), study, 3)
    assert planned == [Plan("tic.diagonal", 30)]
    assert study.user_attrs == {
        "gentheory:plan:tic.kfac:0": {"measure": "tic.diagonal", "num_examples": 30}
    }
    run(free(), study, 3)  # as from another process
    assert len(planned) == 1
    kinds = [(o.measure, o.num_examples, o.state) for _, seen in told(study) for o in seen.values()]
    assert [state for *_, state in kinds] == ["unknown"] + ["known"] * (len(kinds) - 1)
    assert {kind[:2] for kind in kinds[1:]} == {("tic.diagonal", 30)}


def test_of_plans_chosen_at_once_all_follow_that_of_the_earliest_trial(planned: list[Plan]):
    study, asked = study_of(), free()
    trials = [study.ask() for _ in range(2)]
    study.set_user_attr("gentheory:plan:tic.kfac:7", {"measure": "tic.kfac", "num_examples": 20})
    asked.should_prune(trials[1], net(), step=1)
    assert asked._plan == Plan("tic.kfac", 20)
    study.set_user_attr("gentheory:plan:tic.kfac:3", {"measure": "tic.kfac", "num_examples": 10})
    asked.should_prune(trials[0], net(), step=1)
    assert [
        each.user_attrs[f"gentheory:{each.number}:1"]["num_examples"] for each in study.trials
    ] == [10, 20]
    assert not planned


def test_a_study_has_its_own_plan(planned: list[Plan]):
    asked = free()
    for _ in range(2):
        run(asked, study_of(), 1)
    assert [plan.num_examples for plan in planned] == [30, 29]


def test_under_a_real_budget():
    asked, study = tic(max_overhead=0.5), study_of()
    run(asked, study, 3)
    [plan] = study.user_attrs.values()
    seen = [o for _, found in told(study) for o in found.values()]
    assert plan["measure"] in ("tic.kfac", "tic.diagonal", "tic.trace_ratio")
    assert {(o.measure, o.num_examples) for o in seen if o.state == "known"} <= {
        (plan["measure"], plan["num_examples"])
    }
    for each in seen:
        assert each.state == "known" or "tried out" in each.reason or "over budget" in each.reason
