import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import gentheory as gt
from gentheory import measures
from gentheory.params import flatten
from gentheory.study.store import Store

OWN = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))

def examples():
    return torch.linspace(-1, 1, 36).reshape(12, 3), torch.arange(12) % 3

def poisoned():
    inputs, targets = examples()
    inputs[7, 0] = float("nan")
    return inputs, targets

def mislabelled():
    inputs, targets = examples()
    targets[4] = 3
    return inputs, targets

def unreadable():
    return open("nowhere.csv")

def doubled(outputs, targets):
    return 2 * nn.functional.cross_entropy(outputs, targets, reduction="none")

number = 3
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny.done(tmp_path_factory.mktemp("cli") / "tiny", tiny.study())


@pytest.fixture(scope="module")
def weights(store: Store) -> Path:
    """The weights of the first two models."""
    return store.path / "shards" / next(iter(store.sizes)) / "weights.safetensors"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a user's own module in it, where the command is typed."""
    (tmp_path / "own_module.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_module", None)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['gentheory', '--help']\n"
        "from gentheory.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'pandas', 'pydantic', 'numpy', 'duckdb', 'distributed', 'sklearn'}\n"
        "    print(end.code, sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    for command in ("run", "status", "report", "measures", "measure", "diagnose"):
        assert re.search(rf"\b{command}\b", done.stdout)


def test_the_installed_command_answers(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("gentheory")
    done = subprocess.run([command, "status", tmp_path], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"gentheory: {tmp_path}: found no study.json")


def test_measures_are_listed_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    ended = tiny.main(capsys, "measures")
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines] == measures.names()
    told = dict(line.split(maxsplit=1) for line in lines)
    assert told["norms.distance"] == (
        "|θ − θ₀|₂, the distance from the initialization. Exact.  [P operations]"
    )


@pytest.mark.parametrize("position", [0, 1])
def test_a_stored_model_has_the_values_of_the_studys_table(
    store: Store,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    position: int,
) -> None:
    file = tmp_path / "out.json"
    names = ("-m", "tic.exact", "-m", "norms.distance")
    ended = tiny.main(capsys, "measure", f"{weights}@{position}", *names, "--json", file)
    assert ended.code == 0
    found = json.loads(file.read_text())
    model = store.table("models").set_index("position")["model"].groupby(level=0).first()
    rows = store.table("measures").set_index(["model", "measure"]).loc[model[position]]
    assert list(found) == ["tic.exact", "norms.distance"]
    for name, record in found.items():
        assert record["value"] == rows.loc[name, "value"]
        assert record["stderr"] == rows.loc[name, "stderr"] == 0
        assert record["status"] == "ok"
        assert record["stats"] == json.loads(rows.loc[name, "stats"])
        assert f"{record['value']:.6g}" in ended.out
    for warning in found["tic.exact"]["warnings"]:
        assert f"tic.exact: {warning}\n" in ended.out


def test_the_first_model_is_meant_where_no_number_is_given(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, same = (
        tiny.main(capsys, "measure", address, "-m", "norms.parameters").out.split("ok")[0]
        for address in (f"{weights}@0", weights)
    )
    assert first == same


def test_options_reach_the_measure(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.json"
    options = ("-o", "tic.exact.damping=0.5", "-o", "tic.exact.curvature=fisher")
    tiny.main(capsys, "measure", weights, "-m", "tic.exact", *options, "--json", file)
    stats = json.loads(file.read_text())["tic.exact"]["stats"]
    assert (stats["damping"], stats["curvature"]) == (0.5, "fisher")


def test_a_family_and_a_page(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.html"
    ended = tiny.main(capsys, "measure", weights, "-m", "norms", "-m", "tic.exact", "--html", file)
    assert ended.code == 0, ended
    page, family = file.read_text(), [n for n in measures.names() if n.startswith("norms.")]
    for name in [*family, "tic.exact"]:
        assert name in ended.out
        assert f'<details id="{name}"' in page
    assert "trainable parameters</dt>" in page
    assert "Takeuchi 1976" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_model_of_ones_own(own: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    sys.path.insert(0, str(own))
    import own_module  # pyright: ignore[reportMissingImports]

    sys.path.remove(str(own))
    net = own_module.net()
    file = own / f"w.{suffix}"
    (torch.save if suffix == "pt" else save_file)(net.state_dict(), file)
    ended = tiny.main(
        capsys,
        "measure",
        *("--model", "own_module:net", "--weights", file, "--data", "own_module:examples"),
        *("--loss", "own_module:doubled", "--weight-decay", 0.1),
        *("-m", "tic.exact", "-m", "norms.parameters", "--json", "out.json"),
    )
    assert ended.code == 0, ended
    found = json.loads((own / "out.json").read_text())
    risk = gt.EmpiricalRisk(
        net, own_module.doubled, own_module.examples(), weight_decay=0.1, dtype=torch.float64
    )
    expected = gt.measure(risk, ["tic.exact"])["tic.exact"]
    assert found["tic.exact"]["value"] == pytest.approx(expected.value, rel=1e-12)
    assert found["norms.parameters"]["value"] == float(flatten(net).double().norm())


def _own(data: str = "examples", model: str = "net", *more: object) -> tuple[object, ...]:
    models = ("--model", f"own_module:{model}", "--data", f"own_module:{data}")
    return ("measure", *models, "-m", "tic.exact", *more)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            _own("poisoned"),
            r"data, example 7: found an input that is nan or infinite, .*; mend the example ",
        ),
        (_own("mislabelled"), r"data, example 4: found target 3, expected a class of 0 to 2; "),
        (_own("unreadable"), r"nowhere\.csv: found No such file or directory, "),
        (_own("none"), r"--data own_module:none: found module .* no attribute 'none', "),
        (
            _own(model="number"),
            r"--model own_module:number: found int, expected a torch.nn.Module;",
        ),
        (
            _own("examples", "net", "--weights", "w.pt"),
            r"w\.pt: found no such file, expected a file of weights; check the path\.",
        ),
        (
            _own("examples", "net", "--loss", "hinge"),
            r"loss: found 'hinge', expected 'cross_entropy', 'mse', 'squentropy'",
        ),
        (
            ("measure", "--model", ":net", "-m", "tic.exact"),
            r"--model :net: found half an address, expected pkg\.mod:name; write both parts\.",
        ),
        (
            ("measure", "--model", "own_module", "-m", "tic.exact"),
            r"--model own_module: found half an address, expected pkg\.mod:name; write both",
        ),
        (
            ("measure", "--model", "no_module:net", "-m", "tic.exact"),
            r"--model no_module:net: found No module named 'no_module', expected ",
        ),
        (
            ("measure", "--model", "own_module:net", "-m", "tic.exact"),
            r"--data: found nothing, expected pkg\.mod:dataset; name the training data\.",
        ),
        (("measure", "-m", "tic.exact"), r"found neither a checkpoint nor --model, "),
        (
            ("measure", "a", "--model", "b:c", "-m", "d"),
            r"found both a checkpoint and --model",
        ),
        (
            ("measure", "a"),
            r"-m: found no measure, expected at least one; see `gentheory measures`\.",
        ),
    ],
)
@pytest.mark.usefixtures("own")
def test_an_own_model_that_cannot_be_measured(
    capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], message: str
) -> None:
    tiny.refused(tiny.main(capsys, *arguments), message)


@pytest.mark.parametrize(
    ("after", "arguments", "message"),
    [
        ("@2", (), r"weights\.safetensors: found index 2, expected 0 to 1; choose one\."),
        ("@x", (), r"@x: found index 'x', expected a number after the @; give FILE@0\."),
        ("s", (), r"\.safetensorss: found no such file, expected a checkpoint; check the path\."),
        ("", ("-m", "tic.exakt"), r"measure: found 'tic\.exakt', expected one of .*tic\.exact"),
        ("", ("-o", "norms.parameters"), r"-o norms\.parameters: found another form, expected "),
        ("", ("-o", "norms.parameters.p=1"), r"options of 'norms\.parameters': found 'p', "),
        ("", ("-o", "tic.exact.damping=1"), r"options of 'tic\.exact': found a measure not "),
        ("", ("--dtype", "float16"), r"--dtype: found 'float16', expected float32 or float64; "),
        ("", ("--loss", "mse"), r"--loss: found mse, expected nothing, as a checkpoint holds "),
        ("", ("--weight-decay", "0"), r"--weight-decay: found 0\.0, expected nothing, as "),
        (
            "",
            ("--weights", "w.pt"),
            r"--weights: found w\.pt, expected nothing, as .*; leave it ",
        ),
        (
            "",
            ("--json", "no/o.json"),
            r"--json: found no/o\.json, expected a file in an existing ",
        ),
    ],
)
def test_a_stored_model_that_cannot_be_measured_so(
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    after: str,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    address = f"{weights}{after}"
    tiny.refused(
        tiny.main(capsys, "measure", address, "-m", "norms.parameters", *arguments), message
    )


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_checkpoint_cut_short(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    whole = weights.read_bytes()
    file = tmp_path / "cut.safetensors"
    file.write_bytes(whole[: int(share * len(whole))])
    tiny.refused(
        tiny.main(capsys, "measure", file, "-m", "norms.parameters"),
        rf"{file}: found a damaged or foreign file \(.+\), expected a checkpoint written by "
        r"gentheory; copy it again, or train it again\.",
    )


def _with_header(weights: Path, path: Path, change: Any) -> None:
    with safe_open(weights, "pt") as file:
        header = json.loads(file.metadata()["gentheory"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header)
    save_file(tensors, path, metadata={"gentheory": json.dumps(header)})


def test_a_checkpoint_of_another_architecture(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def wider(header: dict[str, Any]) -> None:
        header["models"][0]["model"]["options"]["width"] = 4

    def unknown(header: dict[str, Any]) -> None:
        header["models"][0]["model"]["name"] = "swin"

    file = tmp_path / "other.safetensors"
    _with_header(weights, file, wider)
    tiny.refused(
        tiny.main(capsys, "measure", file, "-m", "norms.parameters"),
        rf"{file}: found 4 tensors that are not those of the architecture it names, expected mlp "
        r"with 310 parameters; use the version of gentheory that wrote it\.",
    )
    _with_header(weights, file, unknown)
    tiny.refused(
        tiny.main(capsys, "measure", file, "-m", "norms.parameters"),
        r"model: found 'swin', expected one of mlp, cnn, .*; choose one of these\.",
    )


def test_weights_that_are_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(2)}, file)
    tiny.refused(
        tiny.main(capsys, "measure", file, "-m", "norms.parameters"),
        rf"{file}: found safetensors without gentheory's description, expected .*; for weights of "
        r"your own use --model, --weights, --data and --loss\.",
    )


def _weights(own: Path, capsys: pytest.CaptureFixture[str]) -> tiny.Ended:
    return tiny.main(capsys, *_own("examples", "net", "--weights", own / "w.pt"))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_weights_cut_short(own: Path, capsys: pytest.CaptureFixture[str], share: float) -> None:
    file = own / "w.pt"
    torch.save({"a": torch.ones(1000)}, file)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    message = rf"{file}: found a damaged file \(.+\), expected a state dict of tensors; save "
    tiny.refused(_weights(own, capsys), message)


def test_weights_of_another_architecture(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(
        nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).state_dict(), own / "w.pt"
    )
    tiny.refused(
        _weights(own, capsys),
        r"w\.pt, tensor '0\.weight': found \(5, 3\), expected \(4, 3\) for Sequential; ",
    )
    torch.save({"model": {}}, own / "w.pt")
    tiny.refused(
        _weights(own, capsys), r"w\.pt: found a dict, expected a state dict; save model\.st"
    )


class _Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("it_ran"),)


@pytest.mark.parametrize("form", ["torch", "pickle", "model"])
def test_a_pickle_that_would_run_code_does_not(
    own: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    file = own / "w.pt"
    if form == "pickle":
        file.write_bytes(pickle.dumps(_Hostile(), protocol=2))
    else:
        torch.save(_Hostile() if form == "torch" else nn.Linear(2, 2), file)
    message = rf"{file}: found a pickle that would run code, expected a state dict of tensors; "
    tiny.refused(_weights(own, capsys), message)
    assert not (own / "it_ran").exists()
    if form == "pickle":
        pickle.loads(file.read_bytes())
        assert (own / "it_ran").exists()  # the test's own weapon is sharp


def test_a_refused_measure_is_told_and_no_error(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = tiny.main(capsys, *_own("examples", "net", "-m", "norms.distance", "--json", "o.json"))
    assert ended.code == 0
    assert "norms.distance: norms.distance: found no initial parameters, expected" in ended.out
    record = json.loads((own / "o.json").read_text())["norms.distance"]
    assert (record["value"], record["status"]) == (None, "refused")


def test_numbers_that_cannot_be_written(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = tiny.main(capsys, "measure", weights, "-m", "norms.parameters", "--json", tmp_path)
    tiny.refused(
        ended, rf"{tmp_path}: found Is a directory, expected a usable path; check the path "
    )
    assert "norms.parameters" in ended.out  # what took long is on the screen at least
