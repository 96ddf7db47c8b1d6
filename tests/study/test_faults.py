"""What can go wrong from outside, a line each: one sentence, status 2, and nothing lost."""

import errno
import gzip
import os
import resource
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import tiny
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

import gentheory as gt
from gentheory.data import Split
from gentheory.study import shard as shards
from gentheory.study.store import Store

MNIST = {"name": "mnist"}
CURE = r"set GENTHEORY_DATA \(or root\) to the folder that holds MNIST/raw"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": (
        tiny.study(training=tiny.training(epochz=2)),
        r"found 1 mistake: training\.epochz = 2 \(unknown key; remove it or correct its name\)",
    ),
    "several mistakes": (
        tiny.study(stack=0, grid={"seed": []}, training=tiny.training(momentum=1.0)),
        r"3 mistakes: stack = 0 \(.*; training\.momentum = 1\.0 \(.*; grid\.seed = \[\] \(",
    ),
    "wrong type": (
        tiny.study(training=tiny.training(epochs="three")),
        r'training\.epochs = "three" \(Input should be a valid integer',
    ),
    "empty grid list": (
        tiny.study(grid={"learning_rate": []}),
        r"grid\.learning_rate = \[\] \(an empty list leaves no model to train; give at least one",
    ),
    "negative width": (
        tiny.study(architectures=[tiny.net(options={"width": -3})]),
        r"architectures\.net: mlp\.width: found -3, expected a whole number of at least 1; give 1",
    ),
    "unknown measure": (
        tiny.study(measures={"names": ["norms.distance", "tic.exakt"]}),
        r'measures\.names\[1\] = "tic\.exakt" \(measure: found .* expected one of .*tic\.exact',
    ),
    "unknown option of a measure": (
        tiny.study(measures={"names": ["tic.exact"], "options": {"tic.exact": {"dampin": 1.0}}}),
        r"options of 'tic\.exact': found 'dampin', expected one of .*\bdamping\b.*; correct it",
    ),
    "options of a measure not asked for": (
        tiny.study(measures={"names": ["tic.exact"], "options": {"norms.distance": {}}}),
        r"options of 'norms\.distance': found a measure not asked for, expected tic\.exact;",
    ),
    "unknown model option": (
        tiny.study(architectures=[tiny.net(options={"widht": 3})]),
        r"architectures\.net: model mlp: found option 'widht', expected one of depth, width, .*;",
    ),
    "unknown architecture": (
        tiny.study(architectures=[tiny.net(model="mlpp")]),
        r"architectures\.net: model: found 'mlpp', expected one of mlp, cnn, .*",
    ),
    "unknown data": (
        tiny.study(data={"name": "digitz"}),
        r"data\.name: found 'digitz', expected one of .*digits.*; use one of them",
    ),
    "unknown option of the data": (
        tiny.study(data={"name": "digits", "options": {"size": 3}}),
        r"data\.size: found this option, expected digits to take only num_test; drop it",
    ),
    "more examples than there are": (
        tiny.study(training=tiny.training(n_train=1201)),
        r"n_train: found 1201, expected at most the 1200 training examples of digits; choose fewer",
    ),
    "learning rate in grid and draws": (
        tiny.study(draws={"count": 2, "learning_rate": {"low": 0.1, "high": 0.2}}),
        r"\['learning_rate'\] stand in both \[grid\] and \[draws\]; keep one",
    ),
    "draws out of range": (
        tiny.study(draws={"count": 2, "momentum": {"low": 0.0, "high": 1.5}}),
        r"draws\.momentum = 1\.5 \(Input should be less than 1\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_study_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    raw, message = REFUSED[name]
    file, out = tiny.write(tmp_path / "study.toml", raw), tmp_path / "out"
    ended = tiny.main(capsys, "run", file, "--out", out, "--engine", "serial")
    tiny.refused(ended, message)
    assert not out.exists()


def test_bad_toml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.toml"
    file.write_text("name = 'a'\nstack = = 3\n")
    tiny.refused(
        tiny.main(capsys, "run", file, "--out", tmp_path / "out"),
        r"study\.toml: found Invalid value \(at line 2, column 9\), expected a TOML file; correct",
    )
    file.write_bytes(b"\xff\xfe")
    tiny.refused(
        tiny.main(capsys, "run", file), r"study\.toml: found .*decode.*, expected a TOML file"
    )
    tiny.refused(
        tiny.main(capsys, "run", tmp_path / "none.toml"),
        r"none\.toml: found no such file, expected a study in TOML; check the path",
    )
    tiny.refused(
        tiny.main(capsys, "run", tmp_path), r"found .*Is a directory.*a readable file; check"
    )


def test_an_unknown_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny.write(tmp_path / "study.toml", tiny.study())
    ended = tiny.main(capsys, "run", file, "--out", tmp_path / "out", "--engine", "mpi")
    tiny.refused(
        ended,
        r"engine: found 'mpi', expected one of serial, local, tcp://host:port, tls:.*; choose one",
    )
    assert not (tmp_path / "out").exists()


def test_missing_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tiny.write(tmp_path / "study.toml", tiny.study(data=MNIST)), tmp_path / "out"
    run = ("run", file, "--out", out, "--engine", "serial")
    monkeypatch.delenv("GENTHEORY_DATA", raising=False)
    tiny.refused(tiny.main(capsys, *run), rf"GENTHEORY_DATA: found nothing, expected .*; {CURE}")
    monkeypatch.setenv("GENTHEORY_DATA", str(tmp_path / "nowhere"))
    tiny.refused(tiny.main(capsys, *run), rf"found '.*nowhere', which is no folder, .*; {CURE}")
    monkeypatch.setenv("GENTHEORY_DATA", str(tmp_path))
    message = rf"MNIST/raw: found no such file, expected train-images-idx3-ubyte or .*; {CURE}"
    tiny.refused(tiny.main(capsys, *run), message)
    assert not out.exists()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_data_cut_short(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    pack: Callable[[bytes], bytes],
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    whole = pack(b"\0\0\x08\x03" + struct.pack(">3I", 5, 28, 28) + bytes(range(256)) * 16)
    (raw / "train-images-idx3-ubyte").write_bytes(whole[: len(whole) * 3 // 4])
    monkeypatch.setenv("GENTHEORY_DATA", str(tmp_path))
    file = tiny.write(tmp_path / "study.toml", tiny.study(data=MNIST))
    tiny.refused(
        tiny.main(capsys, "run", file, "--out", tmp_path / "out", "--engine", "serial"),
        r"train-images-idx3-ubyte: found \d+ bytes.*, expected 3936 bytes for uint8 of shape "
        r"\(5, 28, 28\); replace the file by a whole copy",
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tiny.done(tmp_path / "out", tiny.study())
    before = tiny.files(store)
    file = tiny.write(tmp_path / "other.toml", tiny.study(name="other"))
    ended = tiny.main(capsys, "run", file, "--out", store.path, "--engine", "serial")
    tiny.refused(ended, "out: found the study 'tiny' with another specification, expected .*--out")
    assert tiny.files(store) == before
    assert Store.open(store.path).study == store.study


def test_a_folder_with_files_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    file = tiny.write(tmp_path / "study.toml", tiny.study())
    message = (
        r"out: found files that no study wrote, expected an empty folder; choose another --out"
    )
    tiny.refused(tiny.main(capsys, "run", file, "--out", tmp_path / "out"), message)
    assert [f.read_text() for f in (tmp_path / "out").iterdir()] == ["years of work"]
    tiny.refused(tiny.main(capsys, "run", file, "--out", file), r"study\.toml: found files that no")
    message = r"study\.toml/out: found Not a directory, expected a usable path; check the path"
    tiny.refused(tiny.main(capsys, "run", file, "--out", file / "out"), message)


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_folder_without_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    ended = tiny.main(capsys, command, tmp_path / "none")
    tiny.refused(
        ended, r"none: found no study\.json, expected the folder of a study; give the folder"
    )
    assert list(tmp_path.iterdir()) == []


def _bad(inputs: Tensor, targets: Tensor, what: str) -> tuple[Tensor, Tensor]:
    inputs, targets = inputs.clone(), targets.clone()
    if what in ("nan", "inf"):
        inputs[5, 1] = float(what)
    else:
        targets[5] = int(what)
    return inputs, targets


INPUTS, TARGETS = torch.linspace(0, 1, 21).reshape(7, 3), torch.arange(7) % 3
BAD = {
    "nan": r"data, example 5: found an input that is nan or infinite, expected finite .*; mend",
    "inf": r"data, example 5: found an input that is nan or infinite, expected finite .*; mend",
    "3": r"data, example 5: found target 3, expected a class of 0 to 2; correct or drop it",
    "-100": r"data, example 5: found target -100, expected a class of 0 to 2; correct or drop it",
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("form", ["tensors", "dataset", "batches"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_examples_that_no_measure_can_use(what: str, form: str, loss: str) -> None:
    data: Any = _bad(INPUTS, TARGETS, what)
    if form == "dataset":
        data = torch.utils.data.TensorDataset(*data)
    elif form == "batches":
        data = list(zip(data[0].split(2), data[1].split(2), strict=True))
    risk = gt.EmpiricalRisk(nn.Linear(3, 3), loss, data, batch_size=4)
    for use in (risk.check, risk.value, risk.gradient, lambda: gt.measure(risk, ["tic.exact"])):
        with pytest.raises(gt.InputError, match=BAD[what]):
            use()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            TARGETS.float(),
            r"found torch\.float32 of shape \(7,\), expected classes \[B\] of torch\.int",
        ),
        (TARGETS.int(), r"found torch\.int32 of shape \(7,\), .* or \[B, 3\] .*; convert them"),
        (
            torch.zeros(7, 1),
            r"found torch\.float32 of shape \(7, 1\), .* or \[B, 3\] for 3 outputs",
        ),
        (
            torch.tensor([[0.0, 1, 0], [0, torch.nan, 0]]).repeat(4, 1)[:7],
            r"example 1: found target",
        ),
    ],
)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_targets_that_the_loss_cannot_take(targets: Tensor, message: str, loss: str) -> None:
    risk = gt.EmpiricalRisk(nn.Linear(3, 3), loss, (INPUTS, targets))
    with pytest.raises(gt.InputError, match=message):
        risk.value()


def test_a_loss_of_ones_own_takes_any_target() -> None:
    def own(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.sum(1) - targets).square()

    risk = gt.EmpiricalRisk(nn.Linear(3, 3), own, (INPUTS, TARGETS + 100))
    assert float(risk.value()) > 1000


@pytest.mark.parametrize("what", ["nan", "3"])
def test_a_split_names_the_example(what: str) -> None:
    message = r"it inputs: found nan in example 5, .*; mend|target 3 at position 5, expected 0 to 2"
    with pytest.raises(gt.InputError, match=message):
        Split(*_bad(INPUTS, TARGETS, what), num_classes=3, name="it")


FULL = {
    "weights": (
        "gentheory.checkpoint.save_file",
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ),
    "tables": ("gentheory.study.shard.write_table", duckdb.IOException("Could not write file")),
    "signs of life": ("gentheory.study.shard.write_json", OSError(errno.ENOSPC, "No space left")),
    "quota": ("gentheory.study.shard.write_table", OSError(errno.EDQUOT, "Quota exceeded")),
    "notes": ("gentheory.study.store.Store.note_run", OSError(errno.ENOSPC, "No space left")),
}


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    file = tiny.write(tmp_path / "study.toml", tiny.study())
    run = ("run", file, "--out", tmp_path / "out", "--engine", "serial")
    with monkeypatch.context() as patched:
        _fill_after(patched, *FULL[what], shards_before=1)
        tiny.refused(
            tiny.main(capsys, *run), "out: found no space left on the device, .*; free some"
        )
    store = Store.open(tmp_path / "out")
    assert len(store.done()) == (0 if what == "notes" else 1)
    assert store.inflight() == []
    before = tiny.files(store)
    assert tiny.main(capsys, *run).code == 0
    assert tiny.files(store).items() >= before.items()
    tiny.assert_same(store, tiny.done(tmp_path / "reference", tiny.study()))


def test_a_full_disk_when_a_failure_is_to_be_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("it broke")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "work", broken)
    monkeypatch.setattr(Store, "fail", full)
    file = tiny.write(tmp_path / "study.toml", tiny.study())
    ended = tiny.main(capsys, "run", file, "--out", tmp_path / "out", "--engine", "serial")
    tiny.refused(ended, "out: found no space left on the device, expected room for the results")


def test_a_limit_on_file_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tiny.done(tmp_path / "out", tiny.study())
    whole, (shard, kept) = tiny.files(store), list(store.sizes)
    shutil.rmtree(store.path / "shards" / shard)
    before = tiny.files(store)
    file = tiny.write(tmp_path / "study.toml", tiny.study())
    run = ("run", file, "--out", store.path, "--engine", "serial")
    with tiny.process(*run, preexec_fn=_small_files_only) as limited:
        out, err = limited.communicate(timeout=60)
    tiny.refused(tiny.Ended(limited.returncode, out, err), "out: found no space left on the device")
    assert store.done() == [kept]
    assert tiny.files(store) == before
    assert tiny.main(capsys, *run).code == 0
    assert tiny.files(store) == whole


def test_a_file_system_that_is_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        raw = tiny.study(grid={"learning_rate": [0.01, 0.1], "seed": [0, 1, 2, 3]})
        file = tiny.write(tmp_path / "study.toml", raw)
        run = ("run", file, "--out", disk / "out", "--engine", "serial")
        tiny.refused(
            tiny.main(capsys, *run), "out: found no space left on the device, expected room"
        )
        store = Store.open(disk / "out")
        assert 0 < len(store.done()) < 4
        assert store.inflight() == []
        before = tiny.files(store)
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        assert tiny.main(capsys, *run).code == 0
        assert tiny.files(store).items() >= before.items()
        tiny.assert_same(store, tiny.done(tmp_path / "reference", raw))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _small_files_only() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))


def _fill_after(
    patched: pytest.MonkeyPatch, target: str, error: Exception, *, shards_before: int
) -> None:
    """Let `target` raise the error as soon as so many shards are committed."""
    commits: list[str] = []
    commit = Store._commit
    module, _, name = target.rpartition(".")
    owner: Any = Store if module.endswith("Store") else __import__(module, fromlist=[name])
    real = getattr(owner, name)

    def counted(self: Store, shard: str, folder: Path) -> None:
        commit(self, shard, folder)
        commits.append(shard)

    def filled(*arguments: Any, **options: Any) -> Any:
        if len(commits) >= shards_before or owner is Store:
            raise error
        return real(*arguments, **options)

    patched.setattr(Store, "_commit", counted)
    patched.setattr(owner, name, filled)
