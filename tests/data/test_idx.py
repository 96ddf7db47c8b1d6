"""IDX files, sound and broken."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from gentheory.data.idx import read_idx
from gentheory.errors import InputError


def idx(array: np.ndarray, code: int = 0x08) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(folder: Path, content: bytes, name: str = "file-idx3-ubyte") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


CUBE = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")],
)
def test_every_type_is_read_in_native_order(tmp_path: Path, code: int, dtype: str):
    array = (np.arange(24).reshape(2, 3, 4) * 5).astype(dtype)
    found = read_idx(write(tmp_path, idx(array, code)))
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)


def test_values_of_several_bytes_are_big_endian(tmp_path: Path):
    content = bytes([0, 0, 0x0B, 1, 0, 0, 0, 2, 0x01, 0x02, 0xFF, 0xFE])
    assert read_idx(write(tmp_path, content)).tolist() == [258, -2]


@pytest.mark.parametrize("name", ["a.gz", "a"])
def test_gzip_is_told_by_content_not_by_name(tmp_path: Path, name: str):
    np.testing.assert_array_equal(read_idx(write(tmp_path, gzip.compress(idx(CUBE)), name)), CUBE)
    np.testing.assert_array_equal(read_idx(str(write(tmp_path, idx(CUBE), name))), CUBE)


def test_the_array_can_be_written_to(tmp_path: Path):
    found = read_idx(write(tmp_path, idx(CUBE)))
    found[0] = 1
    assert found[0].max() == 1


@pytest.mark.parametrize("length", [39, 16, 20])
def test_truncated_file_names_file_and_bytes_found_and_expected(tmp_path: Path, length: int):
    path = write(tmp_path, idx(CUBE)[:length])
    match = rf"{path}: found {length} bytes, expected 40 bytes for uint8 of shape \(2, 3, 4\)"
    with pytest.raises(InputError, match=match):
        read_idx(path)


def test_trailing_bytes_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="found 41 bytes, expected 40 bytes"):
        read_idx(write(tmp_path, idx(CUBE) + b"\0"))


def test_gzip_cut_anywhere_is_refused(tmp_path: Path):
    packed = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (40, 9), np.uint8)))
    for length in range(2, len(packed)):
        with pytest.raises(InputError, match=r"ubyte: found \d+ bytes.*, expected .* bytes"):
            read_idx(write(tmp_path, packed[:length]))


def test_gzip_cut_in_its_last_bytes_says_so(tmp_path: Path):
    path = write(tmp_path, gzip.compress(idx(CUBE))[:-1])
    match = "found 40 bytes in a gzip stream that breaks off, expected 40 bytes"
    with pytest.raises(InputError, match=match):
        read_idx(path)


@pytest.mark.parametrize("position", [2, -6])
def test_damaged_gzip_is_refused(tmp_path: Path, position: int):
    packed = bytearray(gzip.compress(idx(CUBE)))
    packed[position] ^= 0xFF
    with pytest.raises(InputError, match="a damaged gzip stream"):
        read_idx(write(tmp_path, bytes(packed)))


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\0\x08", gzip.compress(b"", mtime=0)])
def test_empty_file_is_refused(tmp_path: Path, content: bytes):
    with pytest.raises(InputError, match=r"found \d bytes, expected an IDX header of at least 4"):
        read_idx(write(tmp_path, content))


def test_header_that_promises_more_dimensions_is_refused(tmp_path: Path):
    content = bytearray(idx(CUBE))
    content[3] = 200
    with pytest.raises(InputError, match="found 40 bytes, expected an IDX header of at least 804"):
        read_idx(write(tmp_path, bytes(content)))
    content[3] = 4
    with pytest.raises(InputError, match=r"of shape \(2, 3, 4, 66051\)"):
        read_idx(write(tmp_path, bytes(content)))


def test_header_with_more_dimensions_than_numpy_has_is_refused(tmp_path: Path):
    content = bytes([0, 0, 8, 100]) + struct.pack(">100I", *[1] * 100) + b"\7"
    with pytest.raises(InputError, match=r"expected .* 01 to 20 dimensions"):
        read_idx(write(tmp_path, content))


def test_huge_dimensions_are_refused_before_any_allocation(tmp_path: Path):
    content = bytes([0, 0, 0x0E, 4]) + b"\xff" * 16
    expected = 20 + 8 * (2**32 - 1) ** 4
    with pytest.raises(InputError, match=f"found 20 bytes, expected {expected} bytes"):
        read_idx(write(tmp_path, content))


def test_dimension_zero_is_refused(tmp_path: Path):
    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1)
    with pytest.raises(InputError, match=r"shape \(0, .*expected dimensions of at least 1"):
        read_idx(write(tmp_path, content))


@pytest.mark.parametrize("magic", ["00010803", "01000803", "00000a03", "00000f03"])
def test_wrong_magic_is_shown(tmp_path: Path, magic: str):
    content = bytes.fromhex(magic) + idx(CUBE)[4:]
    shown = bytes.fromhex(magic).hex(" ")
    match = f"the first bytes {shown}, expected 00 00, a type code of 08 09 0b 0c 0d 0e"
    with pytest.raises(InputError, match=match):
        read_idx(write(tmp_path, content))


def test_a_scalar_is_no_idx_file(tmp_path: Path):
    with pytest.raises(InputError, match="the first bytes 00 00 08 00"):
        read_idx(write(tmp_path, b"\0\0\x08\0\7"))


def test_missing_file_and_folder_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"none: found no readable file.*GENTHEORY_DATA"):
        read_idx(tmp_path / "none")
    with pytest.raises(InputError, match=r"no readable file \(Is a directory"):
        read_idx(tmp_path)
