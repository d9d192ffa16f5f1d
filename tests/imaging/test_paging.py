"""Arrays on disk: the same numbers, and memory that is given back."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from stunet.imaging import paging

SIZE = 8 * 2**20


def resident_file_bytes() -> int:
    """Pages of files that this process holds in memory."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux' account of memory")
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":") for line in lines)
    return sum(int(values[key].split()[0]) * 1024 for key in ("RssFile", "RssShmem"))


@pytest.fixture
def small_is_large(monkeypatch):
    monkeypatch.setattr(paging, "LARGE_BYTES", SIZE)


def test_only_large_arrays_lie_in_files(small_is_large):
    assert not isinstance(paging.zeros((SIZE - 1,), np.uint8), np.memmap)
    array = paging.zeros((2, SIZE // 4), np.int16)
    assert isinstance(array, np.memmap) and array.shape == (2, SIZE // 4) and array.dtype == np.int16
    assert not array.any()


def test_memory_is_given_back_and_the_numbers_stay(small_is_large):
    array = paging.zeros((8, SIZE), np.uint8)
    before = resident_file_bytes()
    array[...] = np.arange(8, dtype=np.uint8)[:, None]
    assert resident_file_bytes() - before > 7 * SIZE
    paging.release(np.asarray(array)[3:5].T)
    assert resident_file_bytes() - before < SIZE
    assert (array == np.arange(8)[:, None]).all()


def test_changes_to_a_private_map_are_kept(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes([1]) * SIZE)
        file.flush()
        os.fsync(file.fileno())  # pages that wait to be written cannot be given back
    array = np.asarray(np.memmap(tmp_path / "file", np.uint8, "c"))
    array[7] = 2
    before = resident_file_bytes()
    assert array.sum(dtype=int) == SIZE + 1
    assert resident_file_bytes() - before > SIZE // 2
    paging.release(array)
    assert resident_file_bytes() - before < SIZE // 4
    assert array[7] == 2 and array.sum(dtype=int) == SIZE + 1


def test_arrays_in_memory_are_left_alone():
    array = np.ones((3, 4))
    paging.release(array[1:].T)
    assert (array == 1).all()


def test_without_room_on_disk_it_is_in_memory(small_is_large, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paging.os, "posix_fallocate", full)
    assert not isinstance(paging.zeros((SIZE,), np.uint8), np.memmap)
    with tempfile.TemporaryFile() as file, pytest.raises(OSError, match="No space"):
        paging.zeros_in(file, (SIZE,), np.uint8)


def test_systems_that_cannot_reserve_room_write_zeros(monkeypatch):
    monkeypatch.delattr(paging.os, "posix_fallocate")
    with tempfile.TemporaryFile() as file:
        array = paging.zeros_in(file, (3, 5_000_000), np.uint8)
        assert array.shape == (3, 5_000_000) and not array.any()
