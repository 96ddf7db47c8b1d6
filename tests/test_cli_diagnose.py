import json
from importlib import import_module
from pathlib import Path
from unittest import mock

import pytest
import tiny
import torch
from torch import nn
from trust_tables import tables
from typer.testing import CliRunner

from gentheory.checkpoint import load
from gentheory.trust import diagnose, fit, read

OWN = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))

def examples():
    return torch.linspace(-1, 1, 36).reshape(12, 3), torch.arange(12) % 3
"""
MODEL = ("--model", "own_module_too:net", "--data", "own_module_too:examples")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a module of one's own, its weights before and after training."""
    (tmp_path / "own_module_too.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    for name in ("before", "after"):
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
        torch.save(net.state_dict(), tmp_path / f"{name}.pt")
    return tmp_path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    raw = tiny.study(training=tiny.training(keep_trajectory=True))
    store = tiny.done(tmp_path_factory.mktemp("diagnose") / "tiny", raw)
    return store.path / "shards" / next(iter(store.sizes)) / "weights.safetensors"


def test_a_stored_model(weights, tmp_path, capsys):
    file, page = tmp_path / "d.json", tmp_path / "d.html"
    ended = tiny.main(capsys, "diagnose", f"{weights}@1", "--json", file, "--html", page)
    assert ended.code == 0, ended
    expected = diagnose(load(weights, 1, dtype=torch.float64))
    told = json.loads(file.read_text())
    assert told["verdict"] == expected.verdict
    assert ended.out.startswith(f"Verdict: {expected.verdict}. ")
    for answer, row in zip(expected.answers, told["indicators"], strict=True):
        assert row["value"] == pytest.approx(answer.value, rel=1e-9)
        assert answer.name in ended.out
        assert f'<th scope="row">{answer.name}</th>' in page.read_text()
    assert f"TIC: {expected.verdict}</h1>" in page.read_text()
    assert '<details id="tic.leave_one_out:training"' in page.read_text()
    assert "Checked on the study trust" in " ".join(ended.out.split())


def test_a_model_of_ones_own_with_what_is_known_of_its_training(own, capsys):
    history = ("--initial", "before.pt", "--training-time", 10)
    weights = (*MODEL, "--weights", "after.pt", "--json", "d.json")
    known = {}
    for name, given in (("none", ()), ("all", history)):
        assert tiny.main(capsys, "diagnose", *weights, *given).code == 0
        rows = json.loads((own / "d.json").read_text())["indicators"]
        known[name] = {row["name"]: row["value"] for row in rows if row["value"] is not None}
    new = {"kernel distance", "linearization error", "|log LOO / TIC|, λ = 1/T"}
    assert set(known["all"]) - set(known["none"]) == new
    assert all(known["all"][name] == value for name, value in known["none"].items())


def test_measure_knows_the_start_and_the_time_too(own, capsys):
    names = ("norms.distance", "baselines.training_time")
    asked = [part for name in names for part in ("-m", name)]
    given = ("--weights", "after.pt", "--initial", "before.pt", "--training-time", 2.5)
    assert tiny.main(capsys, "measure", *MODEL, *given, *asked, "--json", "m.json").code == 0
    found = json.loads((own / "m.json").read_text())
    before, after = (torch.load(own / f"{name}.pt") for name in ("before", "after"))
    squares = [(after[key] - before[key]).double().square().sum() for key in after]
    assert found["norms.distance"]["value"] == pytest.approx(float(sum(squares)) ** 0.5)
    assert found["baselines.training_time"]["value"] == 2.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), r"gentheory diagnose: found neither a checkpoint nor --model, expected one of"),
        (("a", *MODEL), r"gentheory diagnose: found both a checkpoint and --model"),
        ((*MODEL, "--initial", "no.pt"), r"no\.pt: found no such file, expected a file of weights"),
        (
            (*MODEL, "--training-time", -1),
            r"--training-time: found -1, expected a positive number; sum learning rate",
        ),
        (("a", "--initial", "before.pt"), r"--initial: found before\.pt, expected nothing, as a"),
        (("a", "--training-time", 1), r"--training-time: found 1\.0, expected nothing, as a"),
        ((*MODEL, "--thresholds", "no.json"), r"no\.json: found no such file, expected thresholds"),
        ((*MODEL, "--html", "no/d.html"), r"--html: found no/d\.html, expected a file in an"),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_cannot_be_diagnosed(capsys, arguments, message):
    tiny.refused(tiny.main(capsys, "diagnose", *arguments), message)


def test_thresholds_of_ones_own(own, capsys):
    """Fitted from the tables of two studies, and then used."""
    command = import_module("gentheory.trust.__main__")
    made = {Path("one"): tables(seed=1), Path("two"): tables(seed=2, flips=6)}
    runner = CliRunner()
    import typer

    app = typer.Typer()
    app.command()(command.main)
    with (
        mock.patch.object(command.Store, "open", side_effect=lambda folder: folder),
        mock.patch.object(command, "read_tables", side_effect=made.__getitem__),
    ):
        ended = runner.invoke(app, ["one", "two", "--out", "t.json"], catch_exceptions=False)
    assert ended.exit_code == 0
    assert "training loss: counts; threshold 0." in ended.output
    assert "P / n: does not count; threshold unknown; AUROC 0.50" in ended.output
    assert read(own / "t.json") == fit(*made.values())
    ended = tiny.main(capsys, "diagnose", *MODEL, "--thresholds", "t.json")
    assert "Checked on the study made-up-2" in " ".join(ended.out.split())
