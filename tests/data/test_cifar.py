"""The binary version of CIFAR-10: made-up records, and the real ones where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from gentheory.data.cifar import cifar10
from gentheory.errors import InputError

FOLDER = os.environ.get("GENTHEORY_DATA", "")
real = pytest.mark.skipif(
    not (Path(FOLDER) / "cifar-10-batches-bin").is_dir() or not FOLDER,
    reason="GENTHEORY_DATA names no folder with cifar-10-batches-bin",
)


def record(label: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, 3072, dtype=np.uint8)
    return bytes([label]) + pixels.tobytes()


def fake(root: Path, **files: bytes) -> Path:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.bin").write_bytes(content)
    return root


def test_batches_come_in_the_order_of_their_names(tmp_path: Path):
    first, second = record(7, 1) + record(2, 2), record(9, 3)
    root = fake(tmp_path, data_batch_2=second, data_batch_1=first, test_batch=record(0, 4))
    train, test = cifar10(root=root)
    assert train.targets.tolist() == [7, 2, 9]
    assert test.targets.tolist() == [0]
    assert tuple(train.shape) == (3, 32, 32)
    assert train.num_classes == 10


def test_pixels_are_colour_planes_in_rows(tmp_path: Path):
    content = record(1, 1) + record(2, 2)
    train, test = cifar10(root=fake(tmp_path, data_batch_1=content, test_batch=record(3, 5)))
    raw = np.frombuffer(content, np.uint8).reshape(2, 3073)[:, 1:] / 255
    mean, deviation = raw.mean(), raw.std()
    for example, plane, row, column in [(0, 0, 0, 1), (1, 2, 31, 30), (0, 1, 5, 17)]:
        value = raw[example, plane * 1024 + row * 32 + column]
        found = train.inputs[example, plane, row, column].item()
        assert found == pytest.approx((value - mean) / deviation, abs=1e-6)
    other = np.frombuffer(record(3, 5), np.uint8)[1:] / 255
    scaled = (other - mean) / deviation
    np.testing.assert_allclose(test.inputs.flatten().numpy(), scaled, rtol=0, atol=1e-6)


@pytest.mark.parametrize("content", [b"", record(1, 1)[:-1], record(1, 1) + b"\0"])
@pytest.mark.parametrize("name", ["data_batch_1", "test_batch"])
def test_parts_of_records_are_refused(tmp_path: Path, name: str, content: bytes):
    files = {"data_batch_1": record(0, 1), "test_batch": record(0, 2), name: content}
    match = rf"{name}\.bin: found {len(content)} bytes, expected one or more records of 3073"
    with pytest.raises(InputError, match=match):
        cifar10(root=fake(tmp_path, **files))


@pytest.mark.parametrize("label", [10, 255])
def test_label_above_nine_names_file_and_record(tmp_path: Path, label: int):
    content = record(3, 1) + record(label, 2)
    root = fake(tmp_path, data_batch_1=record(0, 3), test_batch=content)
    match = rf"test_batch\.bin: found target {label} at position 1, expected 0 to 9"
    with pytest.raises(InputError, match=match):
        cifar10(root=root)


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"cifar-10-batches-bin: found no such.*data_batch_1\.bin"):
        cifar10(root=tmp_path)
    root = fake(tmp_path, data_batch_1=record(0, 1))
    with pytest.raises(InputError, match=r"test_batch\.bin: found no readable file"):
        cifar10(root=root)


def test_missing_variable_names_the_cure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GENTHEORY_DATA", raising=False)
    with pytest.raises(InputError, match=r'GENTHEORY_DATA: found nothing.*data\.name = "digits"'):
        cifar10()


@real
@pytest.mark.mnist
def test_real_files_are_balanced_and_scaled():
    train, test = cifar10()
    assert test.targets.bincount().tolist() == [1000] * 10
    assert len(train.targets.bincount().unique()) == 1
    means = train.inputs.flatten(1).mean(1).double()
    squares = train.inputs.square().flatten(1).mean(1).double()
    assert means.mean().abs() < 1e-6
    assert (squares.mean() - 1).abs() < 1e-5
