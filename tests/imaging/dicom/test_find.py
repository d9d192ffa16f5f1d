"""Folders, zips and gzipped files: what is searched, and within which bounds."""

import gzip
import shutil
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stunet.errors import FileError, UnsafeFileError
from stunet.imaging.formats.dicom import find
from stunet.imaging.formats.dicom.choose import read_dicom
from stunet.imaging.formats.dicom.find import holds_dicom, looks_like_dicom, sources_in
from stunet.imaging.formats.registry import read_volume
from tests.phantoms import smooth_scan, write_dicom_series

ARRAY = smooth_scan((4, 5, 6))


def zipped(path: Path, folder: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"CT/{file.name}")
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read_and_nothing_is_unpacked(tmp_path: Path, monkeypatch, compression: int) -> None:
    write_dicom_series(tmp_path / "series", ARRAY)
    path = zipped(tmp_path / "export.zip", tmp_path / "series", compression)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    np.testing.assert_array_equal(read_volume(path).array[0], ARRAY)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["export.zip", "series"]


def test_a_zip_of_gzipped_files_in_a_folder_is_read(tmp_path: Path) -> None:
    for path in write_dicom_series(tmp_path / "series", ARRAY):
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    np.testing.assert_array_equal(read_dicom(tmp_path).array[0], ARRAY)
    (tmp_path / "zips").mkdir()
    zipped(tmp_path / "zips/export.zip", tmp_path / "series")
    np.testing.assert_array_equal(read_dicom(tmp_path / "zips").array[0], ARRAY)


def rename_member(path: Path, name: str, mode: int = stat.S_IFREG) -> None:
    """A zip with one member of this name and kind."""
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = (mode | 0o644) << 16
        archive.writestr(entry, b"/etc/passwd")


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("../slice.dcm", stat.S_IFREG, "lies outside the zip"),
        ("/etc/slice.dcm", stat.S_IFREG, "lies outside the zip"),
        ("a\\..\\..\\slice.dcm", stat.S_IFREG, "lies outside the zip"),
        ("link.dcm", stat.S_IFLNK, "is a link"),
    ],
)
def test_hostile_paths_and_links_are_refused(tmp_path: Path, name: str, mode: int, reason: str) -> None:
    rename_member(tmp_path / "evil.zip", name, mode)
    with pytest.raises(UnsafeFileError, match=reason):
        read_volume(tmp_path / "evil.zip")
    assert [one.name for one in tmp_path.iterdir()] == ["evil.zip"]


def test_bombs_cost_neither_memory_nor_disk(tmp_path: Path) -> None:
    size = 200 * 2**20
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("slice.dcm", bytes(size))
    with gzip.open(tmp_path / "slice.dcm.gz", "wb") as file:
        file.write(b"\x08\x00\x05\x00" + bytes(size))
    tracemalloc.start()
    with pytest.raises(UnsafeFileError, match="would unpack from"):
        read_volume(tmp_path / "bomb.zip")
    with pytest.raises(FileError, match="unpacks to more than"):
        read_volume(tmp_path / "slice.dcm.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * find.FREE_BYTES


def test_many_small_bombs_are_one_large(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"{number}.dcm", bytes(20 * 2**20))
    with pytest.raises(UnsafeFileError, match=r"would unpack from .* to 104,857,600 bytes"):
        read_volume(tmp_path / "bomb.zip")


def test_a_member_larger_than_it_claims_is_cut(tmp_path: Path) -> None:
    """Its header in the directory says fewer bytes than come out."""
    write_dicom_series(tmp_path / "series", ARRAY)
    path = zipped(tmp_path / "lie.zip", tmp_path / "series")
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, 300)
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"lie\.zip"):
        read_volume(path)


def test_an_encrypted_or_damaged_zip_is_a_sentence(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "series", ARRAY)
    path = zipped(tmp_path / "export.zip", tmp_path / "series", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(FileError, match="is a damaged zip"):
        read_volume(tmp_path / "cut.zip")
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match="is encrypted"):
        read_volume(path)


def test_depth_and_count_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*"abcd")
    write_dicom_series(deep, ARRAY)
    assert len(list(sources_in(tmp_path))) == 4
    monkeypatch.setattr(find, "MAX_DEPTH", 3)
    with pytest.raises(FileError, match="more than 3 folders deep"):
        read_dicom(tmp_path)
    monkeypatch.setattr(find, "MAX_FILES", 3)
    with pytest.raises(FileError, match="holds more than 3 files"):
        read_dicom(deep)
    with pytest.raises(UnsafeFileError, match="holds 4 files, and 3 are possible"):
        read_dicom(zipped(tmp_path / "many.zip", deep))


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "outside", ARRAY)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/link").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "inside/loop").symlink_to(tmp_path / "inside", target_is_directory=True)
    assert list(sources_in(tmp_path / "inside")) == []


def test_what_looks_like_dicom(shared_data: Path, tmp_path: Path) -> None:
    (slice_, *_) = write_dicom_series(tmp_path / "series", ARRAY)
    packed = tmp_path / "series/packed"
    packed.write_bytes(gzip.compress(slice_.read_bytes()))
    bare = shared_data / "dicom_wild/without_preamble/slice000.dcm"
    assert all(looks_like_dicom(path) for path in (slice_, packed, bare))
    shutil.copyfile(shared_data / "totalseg_example/ct_crop.nii.gz", tmp_path / "ct.nii.gz")
    (tmp_path / "notes.txt").write_text("not DICOM")
    assert not any(looks_like_dicom(tmp_path / name) for name in ("ct.nii.gz", "notes.txt", "series", "missing"))
    assert holds_dicom(tmp_path)
    shutil.rmtree(tmp_path / "series")
    assert not holds_dicom(tmp_path)
