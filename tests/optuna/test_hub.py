"""The package in the form of OptunaHub's registry, loaded from the disk."""

import re
from pathlib import Path

import optuna
import pytest

import gentheory.optuna
import optunahub

REGISTRY = Path(__file__).parents[2] / "optunahub"
PACKAGE = REGISTRY / "pruners" / "tic"


def loaded(**_):
    return optunahub.load_local_module(package="pruners/tic", registry_root=str(REGISTRY))


def test_it_exports_what_gentheory_has():
    module = loaded()
    assert module.__all__ == ["TIC", "TICPruner"]
    assert all(getattr(module, each) is getattr(gentheory.optuna, each) for each in module.__all__)


def test_the_readme_has_the_registrys_front_matter_and_sections():
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    keys = re.findall(r"^(\w+): .", front, flags=re.M)
    assert keys == ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert "tags: [pruner," in front
    sections = re.findall(r"^## (.+)$", body, flags=re.M)
    assert sections == ["Abstract", "APIs", "Installation", "Example", "Others"]
    assert not re.search(r"</?[a-z]+>", body)


def test_the_licence_is_the_projects():
    ours = (REGISTRY.parent / "LICENSE").read_text(encoding="utf-8")
    assert (PACKAGE / "LICENSE").read_text(encoding="utf-8") == ours
    assert (PACKAGE / "requirements.txt").read_text(encoding="utf-8").split() == ["gentheory"]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_its_example_prunes(monkeypatch):
    monkeypatch.setattr(optunahub, "load_module", loaded)
    names: dict = {"__name__": "example"}
    exec((PACKAGE / "example.py").read_text(encoding="utf-8"), names)
    pruner = names["module"].TICPruner(optuna.pruners.SuccessiveHalvingPruner(1, 2))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner)
    study.optimize(names["objective"], n_trials=4)
    assert {each.state.name for each in study.trials} == {"COMPLETE", "PRUNED"}
