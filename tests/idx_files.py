"""A made-up MNIST of a few images, in files as the real one's."""

import gzip
import struct
from pathlib import Path

import numpy as np


def fake(root: Path, *, labels: tuple[int, ...] = (3, 1, 4), packed: bool = False) -> np.ndarray:
    """Write a tiny MNIST with these labels in both parts; returns its images."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    count = len(labels)
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        contents = {
            f"{part}-images-idx3-ubyte": struct.pack(">BBBB3I", 0, 0, 8, 3, count, 28, 28)
            + images.tobytes(),
            f"{part}-labels-idx1-ubyte": struct.pack(">BBBBI", 0, 0, 8, 1, count) + bytes(labels),
        }
        for name, content in contents.items():
            if packed:
                (raw / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (raw / name).write_bytes(content)
    return images
