"""IDX files and MNIST, which comes in them (LeCun, Cortes and Burges 1998)."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped, UInt8, UInt16

from gentheory.data.files import CURE, data_folder, read_bytes
from gentheory.data.images import LabelledImages, image_splits
from gentheory.data.split import Split, check_targets
from gentheory.errors import InputError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMS = 32
_BLOCKS = {28: 1, 14: 2, 7: 4}
_REFETCH = "replace the file by a whole copy"


def read_idx(path: str | Path) -> Shaped[np.ndarray, "..."]:
    """The array in an IDX file, plain or gzip (told by its content), in the machine's byte order.

    Format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
    uint32, then the big-endian numbers. Raises `InputError` that names the file, what was found
    and what was expected, for a file that is missing, cut, too long, damaged or not IDX.
    """
    path = Path(path)
    content, whole = _unpacked(path)
    dtype, shape = _header(path, content)
    start = 4 + 4 * len(shape)
    size = start + math.prod(shape) * dtype.itemsize
    if len(content) != size or not whole:
        raise InputError(
            str(path),
            f"{len(content)} bytes" + ("" if whole else " in a gzip stream that breaks off"),
            f"{size} bytes for {dtype.name} of shape {shape}",
            _REFETCH,
        )
    numbers = np.frombuffer(content, dtype, offset=start)
    return numbers.reshape(shape).astype(dtype.newbyteorder("="))


def mnist(*, root: str | Path | None = None, downsize: int = 28) -> tuple[Split, Split]:
    """60,000 training and 10,000 test images as (train, test); inputs [N, 1, side, side].

    The side is `downsize`: 28, or 14 or 7 by exact means over blocks of 2 x 2 or 4 x 4 pixels.
    Pixels are scaled to [0, 1], then by the training part's scalar mean and standard deviation
    (after pooling), both parts alike. Reads root/MNIST/raw/{train,t10k}-images-idx3-ubyte[.gz]
    and -labels-idx1-ubyte[.gz]; `root` is the folder named by GENTHEORY_DATA unless given.
    Raises `InputError` for another `downsize`, and for files that are missing or wrong.
    """
    train, test = mnist_images(root, downsize)
    white = 255 * block_side(downsize) ** 2
    return image_splits(train, test, white=white, num_classes=10, name="mnist")


def mnist_images(root: str | Path | None, downsize: int) -> tuple[LabelledImages, LabelledImages]:
    """Both parts with pixels as they are in the files, summed over blocks; errors as in `mnist`."""
    block, folder = block_side(downsize), data_folder(root) / "MNIST" / "raw"
    return _part(folder, "train", block), _part(folder, "t10k", block)


def block_side(downsize: int) -> int:
    """Of the blocks that an image is pooled over. Raises `InputError` as `mnist` does."""
    if downsize not in _BLOCKS:
        raise InputError("data.downsize", f"{downsize!r}", "28, 14 or 7", "give one of these")
    return _BLOCKS[downsize]


def _unpacked(path: Path) -> tuple[bytes, bool]:
    """The content, and whether it is whole: a cut gzip stream gives what came before the cut."""
    packed = read_bytes(path)
    if not packed.startswith(b"\x1f\x8b"):
        return packed, True
    try:
        return gzip.decompress(packed), True
    except EOFError:
        return _before_cut(packed), False
    except (gzip.BadGzipFile, zlib.error) as error:
        found = f"a damaged gzip stream ({error})"
        raise InputError(str(path), found, "a sound one", _REFETCH) from error


def _before_cut(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(packed)
    except zlib.error:
        return b""


def _header(path: Path, content: bytes) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    start = 4 + 4 * content[3] if len(content) > 3 else 4
    if len(content) < start:
        found, expected = f"{len(content)} bytes", f"an IDX header of at least {start} bytes"
        raise InputError(str(path), found, expected, _REFETCH)
    code, num_dims = content[2], content[3]
    if content[:2] != b"\0\0" or code not in _TYPES or not 1 <= num_dims <= _MAX_DIMS:
        raise InputError(
            str(path),
            f"the first bytes {content[:4].hex(' ')}",
            f"00 00, a type code of {bytes(_TYPES).hex(' ')} and 01 to {_MAX_DIMS:02x} dimensions",
            "give an IDX file",
        )
    shape = struct.unpack(f">{num_dims}I", content[4:start])
    if 0 in shape:
        raise InputError(str(path), f"shape {shape}", "dimensions of at least 1", _REFETCH)
    return np.dtype(_TYPES[code]), shape


def _part(folder: Path, part: str, block: int) -> LabelledImages:
    images = read_idx(_find(folder, f"{part}-images-idx3-ubyte"))
    labels_path = _find(folder, f"{part}-labels-idx1-ubyte")
    labels = read_idx(labels_path)
    bytes_only = images.dtype == labels.dtype == np.uint8
    if not bytes_only or labels.ndim != 1 or images.shape != (len(labels), 28, 28):
        raise InputError(
            f"{folder / part}-*",
            f"images {images.dtype} of shape {images.shape}, "
            f"labels {labels.dtype} of shape {labels.shape}",
            "uint8 of shapes (N, 28, 28) and (N,)",
            "take both files from one copy of MNIST",
        )
    check_targets(torch.from_numpy(labels.astype(np.int64)), 10, place=str(labels_path))
    return _block_sums(images, block)[:, None], labels


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(str(folder), "no such file", f"{name} or {name}.gz", CURE)


def _block_sums(images: UInt8[np.ndarray, "N 28 28"], block: int) -> UInt16[np.ndarray, "N ..."]:
    # Whole-number sums are exact; the division by the number of pixels joins that by 255.
    side = 28 // block
    return images.reshape(-1, side, block, side, block).sum((2, 4), dtype=np.uint16)
