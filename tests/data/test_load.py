"""Data by name, its options checked, each read once."""

import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from gentheory import data
from gentheory.errors import InputError

GAUSSIAN: dict[str, Any] = {
    "num_train": 6,
    "num_test": 4,
    "num_features": 2,
    "num_classes": 2,
    "separation": 1.0,
    "seed": 0,
}


def fake_mnist(root: Path, label: int) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = struct.pack(">BBBB3I", 0, 0, 8, 3, 1, 28, 28) + bytes(range(28)) * 28
        labels = struct.pack(">BBBBI", 0, 0, 8, 1, 1) + bytes([label])
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    return root


def test_every_listed_name_is_a_loader():
    assert all(callable(getattr(data, name)) for name in data.LOADERS)


def test_load_gives_what_the_loader_gives():
    for found, direct in zip(data.load("digits", num_test=9), data.digits(num_test=9), strict=True):
        assert torch.equal(found.inputs, direct.inputs)
        assert torch.equal(found.targets, direct.targets)


def test_a_repeated_load_returns_the_same_objects():
    first = data.load("gaussian_classes", **GAUSSIAN)
    again = data.load("gaussian_classes", **dict(reversed(GAUSSIAN.items())))
    assert again is first
    assert data.load("gaussian_classes", **{**GAUSSIAN, "seed": 1}) is not first


def test_another_folder_is_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for label in (3, 8):
        monkeypatch.setenv("GENTHEORY_DATA", str(fake_mnist(tmp_path / str(label), label)))
        assert data.load("mnist", downsize=7)[0].targets.tolist() == [label]


def test_a_failed_load_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GENTHEORY_DATA", str(tmp_path))
    with pytest.raises(InputError, match="MNIST/raw: found no such file"):
        data.load("mnist")
    fake_mnist(tmp_path, 6)
    assert data.load("mnist")[0].targets.tolist() == [6]


@pytest.mark.parametrize("root", [str, Path])
def test_root_may_be_text_or_path(tmp_path: Path, root: type):
    fake_mnist(tmp_path, 2)
    assert data.load("mnist", root=root(tmp_path))[1].targets.tolist() == [2]


@pytest.mark.parametrize("name", ["imagenet", "", "Split", "load", "subset", "__name__"])
def test_unknown_names_list_the_known_ones(name: str):
    match = f"data.name: found '{name}', expected one of cifar10, colored_mnist, digits"
    with pytest.raises(InputError, match=match):
        data.load(name)


@pytest.mark.parametrize(
    ("name", "option", "known"),
    [
        ("digits", "downsize", "num_test"),
        ("mnist", "side", "root, downsize"),
        ("mnist", "name", ""),
    ],
)
def test_unknown_options_list_the_known_ones(name: str, option: str, known: str):
    match = rf"data\.{option}: found this option, expected {name} to take only {known}"
    with pytest.raises(InputError, match=match):
        data.load(name, **{option: 7})


def test_missing_options_are_named():
    options = {key: value for key, value in GAUSSIAN.items() if key != "separation"}
    with pytest.raises(InputError, match=r"data\.separation: found nothing, expected a value"):
        data.load("gaussian_classes", **options)


@pytest.mark.parametrize(
    ("name", "option", "value", "match"),
    [
        ("mnist", "downsize", 9, "found 9, expected 28, 14 or 7"),
        ("mnist", "downsize", 14.0, r"found 14\.0, expected a value of type int"),
        ("mnist", "downsize", "7", "found '7', expected a value of type int"),
        ("mnist", "downsize", [7], r"found \[7\], expected a value of type int"),
        ("mnist", "root", 3, r"found 3, expected a value of type str \| pathlib.Path \| None"),
        ("digits", "num_test", True, "found True, expected a value of type int"),
        ("digits", "num_test", 5000, "found 5000, expected 1 to 1796"),
    ],
)
def test_wrong_values_are_named(name: str, option: str, value: object, match: str):
    with pytest.raises(InputError, match=rf"data\.{option}: {match}"):
        data.load(name, **{option: value})


def test_a_whole_number_may_stand_for_a_real_one():
    found = data.load("gaussian_classes", **{**GAUSSIAN, "separation": 3})
    direct = data.gaussian_classes(**{**GAUSSIAN, "separation": 3.0})
    assert torch.equal(found[0].inputs, direct[0].inputs)
