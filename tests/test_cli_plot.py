import json

import pytest
import tiny
import torch
from torch import nn

from gentheory.checkpoint import load
from gentheory.measures import measure

OWN = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))

def examples():
    return torch.linspace(-1, 1, 36).reshape(12, 3), torch.arange(12) % 3
"""
MODEL = ("--model", "own_plotted:net", "--data", "own_plotted:examples", "--weights", "own.pt")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    names = ["norms.parameters", "norms.distance", "baselines.training_loss"]
    raw = tiny.study(
        training=tiny.training(epochs=4, checkpoints=[1, 2, 4]),
        grid={"learning_rate": [0.01, 0.03, 0.1], "seed": [0, 1]},
        measures={"names": names},
    )
    return tiny.done(tmp_path_factory.mktemp("plot") / "tiny", raw)


@pytest.fixture
def weights(study):
    return study.path / "shards" / next(iter(study.sizes)) / "weights.safetensors"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a module of one's own and its weights."""
    (tmp_path / "own_plotted.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    torch.save(net.state_dict(), tmp_path / "own.pt")
    return tmp_path


def test_a_landscape_as_files_of_every_kind(weights, tmp_path, capsys):
    files = [tmp_path / f"l.{suffix}" for suffix in ("pdf", "svg", "png", "html")]
    out = [part for file in files for part in ("--out", file)]
    given = (
        "--points",
        5,
        "--directions",
        "trajectory",
        "--surface",
        "--json",
        tmp_path / "l.json",
    )
    ended = tiny.main(capsys, "plot", "landscape", f"{weights}@1", *out, *given)
    assert ended.code == 0, ended
    names = [f"l.landscape_{part}.{s}" for s in ("pdf", "svg", "png") for part in ("line", "plane")]
    written = [tmp_path / name for name in ("l.json", *names, "l.html")]
    assert ended.out.replace("\n", "") == "".join(map(str, written))
    starts = {".pdf": b"%PDF-", ".svg": b"<?xml", ".png": b"\x89PNG", ".html": b"<!doctype html>"}
    for file in written[1:]:
        assert file.read_bytes().startswith(starts[file.suffix])
    page = (tmp_path / "l.html").read_text()
    assert 'id="landscape_plane-surface"' in page
    assert page.count('<img src="data:image/svg+xml') == 2
    assert page.count('srcset="data:image/svg+xml') == 2
    assert "<script src" not in page
    tables = json.loads((tmp_path / "l.json").read_text())
    assert len(tables["landscape_plane.plane"]) == 25
    assert [row["step"] for row in tables["landscape_plane.trajectory"]] == [0, 2, 4, 8]


def test_a_killed_plane_goes_on_from_its_file(weights, tmp_path, capsys):
    given = ("--points", 3, "--keep", tmp_path / "kept", "--json", tmp_path / "l.json")
    assert tiny.main(capsys, "plot", "landscape", weights, *given).code == 0
    first = json.loads((tmp_path / "l.json").read_text())
    assert (tmp_path / "kept").exists()
    assert tiny.main(capsys, "plot", "landscape", weights, *given).code == 0
    assert json.loads((tmp_path / "l.json").read_text()) == first


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("density", {"density.density", "density.outliers"}),
        ("kernel", {"kernel_spectrum.kernel_spectrum", "kernel_drift.kernel_drift"}),
        ("eigenvalues", {"eigenvalues.eigenvalues"}),
        ("collapse", {"class_means.class_means", "collapse.collapse"}),
        ("classes", {"class_spectra.class_spectra"}),
    ],
)
def test_every_other_kind_of_a_stored_model(weights, tmp_path, capsys, kind, names):
    file, page = tmp_path / "numbers.json", tmp_path / "page.html"
    ended = tiny.main(capsys, "plot", kind, weights, "--json", file, "--out", page)
    assert ended.code == 0, ended
    assert set(json.loads(file.read_text())) == names
    text = page.read_text()
    assert f"gentheory plot {kind}" in text
    assert "plotly" not in text
    assert "Provenance" in text


def test_numbers_are_those_of_the_measures(weights, tmp_path, capsys):
    file = tmp_path / "numbers.json"
    assert tiny.main(capsys, "plot", "kernel", f"{weights}@1", "--json", file).code == 0
    rows = json.loads(file.read_text())["kernel_drift.kernel_drift"]
    known = measure(load(weights, 1, dtype=torch.float64), "ntk.distance")["ntk.distance"].value
    assert rows[-2]["epoch"] == 4
    assert rows[-2]["value"] == pytest.approx(known, rel=1e-9)


def test_a_plotted_model_of_ones_own(own, capsys):
    ended = tiny.main(capsys, "plot", "classes", *MODEL, "--out", "c.svg", "--curvature", "ggn")
    assert ended.code == 0, ended
    assert ended.out == "c.svg\n"
    assert (own / "c.svg").read_bytes().startswith(b"<?xml")
    ended = tiny.main(capsys, "plot", "kernel", *MODEL, "--out", "k.png")
    assert ended.out == "k.png\n"


def test_correlations_of_a_study(study, tmp_path, capsys):
    file = tmp_path / "c.json"
    given = ("--out", tmp_path / "c.pdf", "--json", file)
    ended = tiny.main(capsys, "plot", "correlations", study.path, *given)
    assert ended.code == 0, ended
    rows = json.loads(file.read_text())["correlations.correlations"]
    pairs = {(row["row"], row["column"]): row["value"] for row in rows}
    assert pairs["training loss", "baselines.training_loss"] == pytest.approx(1.0)
    assert ("gap", "norms.distance") in pairs
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("density", "a"), r"--out: found no file, expected one that ends in \.pdf, \.svg"),
        (("density", "a", "--out", "a.gif"), r"--out a\.gif: found the suffix '\.gif', expected"),
        (("density", "a", "--out", "no/a.png"), r"--out: found no/a\.png, expected a file in an"),
        (("density", "--out", "a.png"), r"gentheory plot density: found neither a checkpoint nor"),
        (
            ("landscape", "a", "--out", "a.png", "--surface"),
            r"--surface: found no page to put it in, expected --out FILE\.html",
        ),
        (
            ("landscape", *MODEL, "--out", "a.png", "--directions", "up"),
            r"directions: found 'up', expected one of filter, layer, random",
        ),
        (
            ("eigenvalues", *MODEL, "--out", "a.png"),
            r"plot eigenvalues: found 0 times in training, expected at least 2",
        ),
        (
            ("correlations", "nowhere", "--out", "a.png"),
            r"nowhere: found no study\.json, expected the folder of a",
        ),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_cannot_be_plotted(capsys, arguments, message):
    tiny.refused(tiny.main(capsys, "plot", *arguments), message)
