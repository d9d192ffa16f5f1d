"""Volumes shown as tiles, Siemens' MOSAIC and UIH's GRID, against the same slices in files of their own."""

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest

from stunet.errors import UserError
from stunet.imaging.formats.dicom.choose import read_dicom
from stunet.imaging.formats.dicom.csa import read_csa
from stunet.imaging.formats.dicom.found import find_series
from stunet.inference.segmentation import Segmentation, Timings
from tests.imaging.dicom.samples import change
from tests.phantoms import smooth_scan, write_dicom_series

SLICES, ROWS, COLUMNS = 5, 6, 7
ACROSS = 3
ROW, COLUMN = np.array([0.8, 0.36, 0.48]), np.array([-0.6, 0.48, 0.64])
NORMAL = np.cross(ROW, COLUMN)
FIRST = np.array([-10.0, -20.0, 30.0])
DOWN_MM, ALONG_MM, GAP = 0.5, 0.75, 2.5


def csa(**values: list[object]) -> bytes:
    """A CSA header of the second version."""
    content = b"SV10\4\3\2\1" + struct.pack("<II", len(values), 77)
    for name, own in values.items():
        content += struct.pack("<64si4siii", name.encode(), len(own), b"IS", 6, 6, 77)
        for text in [str(value).encode() + b"\0" for value in own] + [b""] * (6 - len(own)):
            content += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + b"\0" * (-len(text) % 4)
    return content


def tiled(array_ZYX: np.ndarray, down: int) -> np.ndarray:
    image = np.zeros((down * ROWS, ACROSS * COLUMNS), dtype=np.int16)
    for z, pixels in enumerate(array_ZYX):
        y, x = z // ACROSS * ROWS, z % ACROSS * COLUMNS
        image[y : y + ROWS, x : x + COLUMNS] = pixels
    return image


def write_slices(folder: Path, array_ZYX: np.ndarray, step: np.ndarray) -> None:
    """The slices as files of their own, from `FIRST` on."""
    for z, path in enumerate(write_dicom_series(folder, array_ZYX)):
        change(path, ImagePositionPatient=list(FIRST + z * step), ImageOrientationPatient=[*ROW, *COLUMN])


def write_mosaic(folder: Path, array_ZYX: np.ndarray, sign: int = 1, number: int = 1, **values: list[object]) -> Path:
    """A MOSAIC whose slices follow each other along or against the normal of the image."""
    (path,) = write_dicom_series(folder, tiled(array_ZYX, ACROSS)[None])
    dataset = pydicom.dcmread(path)
    outside = ROW * ALONG_MM * (ACROSS - 1) * COLUMNS / 2 + COLUMN * DOWN_MM * (ACROSS - 1) * ROWS / 2
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = list(FIRST - outside), [*ROW, *COLUMN]
    dataset.SpacingBetweenSlices, dataset.InstanceNumber, dataset.SOPInstanceUID = GAP, number, f"1.2.7.{number}"
    stated = {"NumberOfImagesInMosaic": [SLICES], "SliceNormalVector": list(sign * NORMAL), **values}
    block = dataset.private_block(0x29, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa(**stated))
    dataset.save_as(folder / f"mosaic{number}.dcm")
    path.unlink()
    return folder / f"mosaic{number}.dcm"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mosaic_equals_its_slices(tmp_path: Path, sign: int) -> None:
    array = smooth_scan((SLICES, ROWS, COLUMNS))
    write_slices(tmp_path / "slices", array, sign * GAP * NORMAL)
    write_mosaic(tmp_path / "mosaic", array, sign)
    plain, mosaic = read_dicom(tmp_path / "slices"), read_dicom(tmp_path / "mosaic")
    np.testing.assert_array_equal(mosaic.array, plain.array)
    np.testing.assert_allclose(mosaic.affine, plain.affine, atol=1e-6)


def test_a_grid_equals_its_slices(tmp_path: Path) -> None:
    array = smooth_scan((SLICES, ROWS, COLUMNS))
    write_slices(tmp_path / "slices", array, GAP * NORMAL)
    (path,) = write_dicom_series(tmp_path / "grid", tiled(array, 2)[None])
    dataset = pydicom.dcmread(path)
    dataset.ImageType, dataset.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "M", "VFRAME"], [*ROW, *COLUMN]
    del dataset.ImagePositionPatient
    frames = [pydicom.Dataset() for _ in array]
    for z, frame in enumerate(frames):
        frame.ImagePositionPatient = list(FIRST + z * GAP * NORMAL)
    dataset.private_block(0x65, "Image Private Header", create=True).add_new(0x51, "SQ", frames)
    dataset.save_as(path)
    plain, grid = read_dicom(tmp_path / "slices"), read_dicom(tmp_path / "grid")
    np.testing.assert_array_equal(grid.array, plain.array)
    np.testing.assert_allclose(grid.affine, plain.affine, atol=1e-6)


def test_mosaics_of_a_time_series_are_volumes(tmp_path: Path) -> None:
    arrays = [smooth_scan((SLICES, ROWS, COLUMNS), seed) for seed in range(3)]
    for number, array in enumerate(arrays, 1):
        write_mosaic(tmp_path, array, number=number)
    series = find_series(tmp_path).series
    assert [one.part for one in series] == ["volume 1", "volume 2", "volume 3"]
    for one, array in zip(series, arrays, strict=True):
        np.testing.assert_array_equal(one.read().array[0], array)


@pytest.mark.parametrize(
    "values",
    [
        {"NumberOfImagesInMosaic": [17]},
        {"NumberOfImagesInMosaic": ["many"]},
        {"NumberOfImagesInMosaic": [-4]},
        {"SliceNormalVector": []},
        {"SliceNormalVector": [0, 0, 1]},
    ],
)
def test_a_mosaic_that_does_not_say_where_its_tiles_lie_is_refused(
    tmp_path: Path, values: dict[str, list[object]]
) -> None:
    write_mosaic(tmp_path, smooth_scan((SLICES, ROWS, COLUMNS)), **values)
    with pytest.raises(UserError, match=r"mosaic1\.dcm: is a MOSAIC"):
        read_dicom(tmp_path)


def test_a_cut_mosaic_is_refused(tmp_path: Path) -> None:
    path = write_mosaic(tmp_path, smooth_scan((SLICES, ROWS, COLUMNS)))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="the pixels cannot be decoded"):
        read_dicom(tmp_path)


def test_a_dicom_result_cannot_refer_to_tiles(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "in", smooth_scan((SLICES, ROWS, COLUMNS)))
    scan = read_dicom(tmp_path / "in")
    done = Segmentation(np.ones(scan.shape, dtype=np.uint8), {0: "background", 1: "liver"}, scan, Timings(0, 0, 0, 0))
    with pytest.raises(UserError, match=r"tiles of one image.*nifti"):
        done.save(tmp_path / "out.dcm")
    assert not (tmp_path / "out.dcm").exists()


def test_a_csa_header() -> None:
    content = csa(A=[1, "two"], B=[])
    assert read_csa(content) == {"A": ["1", "two"], "B": []}
    for end in range(4, len(content) - 16 * 6):
        with pytest.raises(ValueError, match=r"ends too early|a value of"):
            read_csa(content[:end])
    with pytest.raises(ValueError, match="second version"):
        read_csa(b"\0" * 100)
    with pytest.raises(ValueError, match="names"):
        read_csa(b"SV10" + b"\xff" * 100)
