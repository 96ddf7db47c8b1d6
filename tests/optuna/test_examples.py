"""The example scripts run, and prune."""

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace

import optuna
import pytest
import torch

from gentheory.optuna.channel import observations

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the frameworks, about workers and the like
        yield


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(study: optuna.Study) -> None:
    """Some trials are pruned, the best one is not, and all were measured."""
    states = [trial.state.name for trial in study.trials]
    assert "PRUNED" in states
    assert study.best_trial.state.name == "COMPLETE"
    for trial in study.trials:
        assert {each.state for each in observations(trial).values()} <= {"known", "diverged"}
        assert observations(trial)


def test_a_plain_loop():
    check(example("optuna_plain").main(12))


def test_lightning():
    pytest.importorskip("lightning")
    check(example("optuna_lightning").main(6))


def test_transformers():
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    check(example("optuna_transformers").main(6))


def test_the_callback_for_transformers_alone():
    """As its Trainer calls it; that needs accelerate, this does not."""
    transformers = pytest.importorskip("transformers")
    module = example("optuna_transformers")
    study = module.optuna.create_study(
        pruner=module.TICPruner(optuna.pruners.SuccessiveHalvingPruner(1, 2))
    )
    pruned = []
    for number in range(3):
        trial = study.ask({})
        torch.manual_seed(0)
        model = module.build(optuna.trial.FixedTrial({"width": 8}))
        with torch.no_grad():
            model.classifier.weight.mul_(10 * number)
        callback = module.TICCallback(trial, module.tic)
        assert isinstance(callback, transformers.TrainerCallback)
        handler = transformers.trainer_callback.CallbackHandler([callback], model, None, None, None)
        state = transformers.TrainerState(epoch=1.0)
        try:
            handler.on_epoch_end(SimpleNamespace(), state, transformers.TrainerControl())
        except optuna.TrialPruned:
            pruned.append(number)
    assert pruned == [1, 2]
