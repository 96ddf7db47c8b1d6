"""MNIST: the real files where the folder is named, small made-up ones for what can go wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from idx_files import fake

from gentheory.data.idx import mnist, read_idx
from gentheory.data.split import Split
from gentheory.errors import InputError

FOLDER = os.environ.get("GENTHEORY_DATA", "")
real = pytest.mark.skipif(
    not (Path(FOLDER) / "MNIST" / "raw").is_dir() or not FOLDER,
    reason="GENTHEORY_DATA names no folder with MNIST/raw",
)


def pooled(images: np.ndarray, side: int) -> np.ndarray:
    block = 28 // side
    return images.reshape(-1, side, block, side, block).mean((2, 4)) / 255


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("side", [28, 14, 7])
def test_pooled_and_scaled_pixels(tmp_path: Path, side: int, packed: bool):
    expected = pooled(fake(tmp_path, packed=packed), side)
    expected = (expected - expected.mean()) / expected.std()
    for split in mnist(root=tmp_path, downsize=side):
        assert tuple(split.shape) == (1, side, side)
        assert split.targets.tolist() == [3, 1, 4]
        np.testing.assert_allclose(split.inputs[:, 0].numpy(), expected, rtol=0, atol=2e-6)


def test_the_folder_comes_from_the_environment_unless_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake(tmp_path / "named", labels=(1, 2))
    fake(tmp_path / "given", labels=(5, 6))
    monkeypatch.setenv("GENTHEORY_DATA", str(tmp_path / "named"))
    assert mnist()[0].targets.tolist() == [1, 2]
    assert mnist(root=str(tmp_path / "given"))[0].targets.tolist() == [5, 6]


@pytest.mark.parametrize("value", [None, ""])
def test_no_folder_names_variable_and_cure(monkeypatch: pytest.MonkeyPatch, value: str | None):
    if value is None:
        monkeypatch.delenv("GENTHEORY_DATA", raising=False)
    else:
        monkeypatch.setenv("GENTHEORY_DATA", value)
    match = 'GENTHEORY_DATA: found nothing.*set GENTHEORY_DATA.*MNIST/raw.*data.name = "digits"'
    with pytest.raises(InputError, match=match):
        mnist()


def test_folder_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    match = f"data.root: found '{tmp_path}/none', which is no folder"
    with pytest.raises(InputError, match=match):
        mnist(root=tmp_path / "none")
    monkeypatch.setenv("GENTHEORY_DATA", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"GENTHEORY_DATA: found '.*none', which is no folder"):
        mnist()


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_missing_file_is_named_with_its_place(tmp_path: Path, name: str):
    fake(tmp_path)
    (tmp_path / "MNIST" / "raw" / name).unlink()
    match = rf"MNIST/raw: found no such file, expected {name} or {name}\.gz; set GENTHEORY_DATA"
    with pytest.raises(InputError, match=match):
        mnist(root=tmp_path)


@pytest.mark.parametrize("label", [10, 255])
def test_label_above_nine_names_file_and_position(tmp_path: Path, label: int):
    fake(tmp_path, labels=(3, label))
    match = rf"train-labels-idx1-ubyte: found target {label} at position 1, expected 0 to 9"
    with pytest.raises(InputError, match=match):
        mnist(root=tmp_path)


def test_images_and_labels_of_different_copies_are_refused(tmp_path: Path):
    fake(tmp_path / "a", labels=(1, 2, 3))
    fake(tmp_path / "b", labels=(1, 2))
    name = Path("MNIST") / "raw" / "train-labels-idx1-ubyte"
    (tmp_path / "b" / name).replace(tmp_path / "a" / name)
    with pytest.raises(InputError, match=r"shape \(3, 28, 28\), labels uint8 of shape \(2,\)"):
        mnist(root=tmp_path / "a")


def test_swapped_files_are_refused(tmp_path: Path):
    fake(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    (raw / "train-labels-idx1-ubyte").replace(raw / "train-images-idx3-ubyte")
    (raw / "t10k-images-idx3-ubyte").replace(raw / "train-labels-idx1-ubyte")
    match = r"images uint8 of shape \(3,\), labels uint8 of shape \(3, 28, 28\)"
    with pytest.raises(InputError, match=match):
        mnist(root=tmp_path)


@pytest.mark.parametrize("downsize", [9, 1, 0, -7, 56])
def test_other_sides_are_refused(downsize: int):
    with pytest.raises(InputError, match=rf"data\.downsize: found {downsize}, expected 28, 14 or"):
        mnist(downsize=downsize)


@pytest.fixture(scope="module")
def small() -> tuple[Split, Split]:
    return mnist(downsize=7)


@real
@pytest.mark.mnist
def test_real_labels_and_class_counts(small: tuple[Split, Split]):
    train, test = small
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.targets.bincount().tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test.targets.bincount().tolist() == counts


@real
@pytest.mark.mnist
def test_real_pixels_at_side_seven(small: tuple[Split, Split]):
    raw = read_idx(Path(FOLDER) / "MNIST" / "raw" / "train-images-idx3-ubyte.gz")
    expected = pooled(raw, 7)
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(small[0].inputs[:, 0].numpy(), expected, rtol=0, atol=5e-6)


@real
@pytest.mark.mnist
def test_real_mean_and_deviation_are_the_published_ones():
    test = mnist()[1]
    # A black pixel is -mean / deviation and a white one (1 - mean) / deviation.
    low, high = test.inputs.min().item(), test.inputs.max().item()
    deviation = 1 / (high - low)
    assert deviation == pytest.approx(0.3081, abs=5e-5)
    assert -low * deviation == pytest.approx(0.1307, abs=5e-5)
    assert test.inputs.dtype == torch.float32
