"""CIFAR-10 from its binary version (Krizhevsky 2009)."""

from pathlib import Path

import numpy as np
import torch

from gentheory.data.files import CURE, data_folder, read_bytes
from gentheory.data.images import LabelledImages, image_splits
from gentheory.data.split import Split, check_targets
from gentheory.errors import InputError

_RECORD = 1 + 3 * 32 * 32


def cifar10(*, root: str | Path | None = None) -> tuple[Split, Split]:
    """Colour images of 32 x 32 pixels, 10 classes, as (train, test); inputs [N, 3, 32, 32].

    Reads root/cifar-10-batches-bin/data_batch_*.bin, as many as there are in the order of their
    names, and test_batch.bin; `root` is the folder named by GENTHEORY_DATA unless given. Pixels
    are scaled to [0, 1], then by the training part's scalar mean and standard deviation, over
    all three colours, both parts alike. Raises `InputError` for a missing file, one that is not
    made of whole records (1 byte of label, 3,072 of pixels), or a label above 9.
    """
    folder = data_folder(root) / "cifar-10-batches-bin"
    batches = sorted(folder.glob("data_batch_*.bin"))
    if not batches:
        raise InputError(str(folder), "no such file", "data_batch_1.bin and so on", CURE)
    train, test = _part(batches), _part([folder / "test_batch.bin"])
    return image_splits(train, test, white=255, num_classes=10, name="cifar10")


def _part(paths: list[Path]) -> LabelledImages:
    records = np.concatenate([_records(path) for path in paths])
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def _records(path: Path) -> np.ndarray:
    content = read_bytes(path)
    if not content or len(content) % _RECORD:
        raise InputError(
            str(path),
            f"{len(content)} bytes",
            f"one or more records of {_RECORD} bytes",
            "replace the file by a whole copy",
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    check_targets(torch.from_numpy(records[:, 0].astype(np.int64)), 10, place=str(path))
    return records
