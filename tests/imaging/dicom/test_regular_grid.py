"""Tilted and uneven slices on a rectangular grid, and labels back on them, against a phantom whose truth is known."""

from pathlib import Path

import numpy as np
import pytest

from stunet.imaging.affine import voxel_to_world
from stunet.imaging.formats.dicom.choose import read_dicom
from stunet.imaging.formats.dicom.found import find_series
from stunet.imaging.volume import Volume
from tests.imaging.dicom.samples import change
from tests.phantoms import write_dicom_series

ROWS, COLUMNS = 64, 56
ORGAN, AIR = 100, -1000


def organ(points: np.ndarray) -> np.ndarray:
    """Whether points (..., 3) in LPS mm lie in an ellipsoid that leans, so that no mirror image fits."""
    x, y, z = np.moveaxis(points - (21.0, 16.0, 15.0), -1, 0)
    return (x / 12) ** 2 + (y / 9) ** 2 + ((z - 0.2 * x) / 11) ** 2 < 1


def write_organ(folder: Path, positions: list[tuple[float, float, float]], column=(0.0, 1.0, 0.0)) -> np.ndarray:
    """Slices of the organ at LPS positions, with pixels of 0.5 x 0.75 mm.

    Returns:
        (K, rows, columns) the truth on the slices, from the lowest to the highest.
    """
    rows, columns = np.meshgrid(np.arange(ROWS) * 0.5, np.arange(COLUMNS) * 0.75, indexing="ij")
    plane = rows[..., None] * column + columns[..., None] * (1.0, 0.0, 0.0)
    truth = np.stack([organ(plane + position) for position in positions])
    paths = write_dicom_series(folder, np.where(truth, ORGAN, AIR).astype(np.int16), SliceThickness=2)
    for path, position in zip(paths, positions, strict=True):
        change(path, ImagePositionPatient=list(position), ImageOrientationPatient=[1, 0, 0, *column])
    return truth


TILT = np.radians(18.5)

SERIES = {
    "uneven": ([(0.0, 0.0, float(z)) for z in (*range(0, 13, 2), *range(15, 28, 3), 30)], (0.0, 1.0, 0.0)),
    "tilted": ([(0.0, 0.0, 1.5 * k) for k in range(22)], (0.0, float(np.cos(TILT)), float(-np.sin(TILT)))),
    "tilted and uneven": (
        [(0.0, 0.0, float(z)) for z in (*range(0, 13, 2), *range(15, 31, 3))],
        (0.0, float(np.cos(TILT)), float(np.sin(TILT))),
    ),
}


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def labels_of(volume: Volume) -> np.ndarray:
    """As a network would label the volume: what is nearer to the organ's value than to air's."""
    return (volume.array[0] > (ORGAN + AIR) / 2).astype(np.uint8)


def world_truth(volume: Volume) -> np.ndarray:
    """The organ on the volume's own grid, by its affine."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.shape), indexing="ij"), axis=-1)[..., ::-1]
    return organ(voxel_to_world(volume.affine, index) * (-1, -1, 1))


@pytest.mark.parametrize("kind", SERIES)
def test_the_grid_lies_where_the_slices_lie(tmp_path: Path, kind: str) -> None:
    write_organ(tmp_path, *SERIES[kind])
    volume = read_dicom(tmp_path)
    assert volume.slices is not None and not volume.slices.stack.is_regular
    assert dice(labels_of(volume).astype(bool), world_truth(volume)) > 0.97
    steps = volume.affine[:3, :3]
    np.testing.assert_allclose(steps.T @ steps, np.diag(np.square(volume.spacing[::-1])), atol=1e-9)


@pytest.mark.parametrize("kind", SERIES)
def test_labels_come_back_on_the_slices(tmp_path: Path, kind: str) -> None:
    truth = write_organ(tmp_path, *SERIES[kind])
    volume = read_dicom(tmp_path)
    assert volume.slices is not None
    back = volume.slices.labels_on_slices(labels_of(volume))
    order = [one.instance for one in volume.slices.stack.slices]
    truth = truth[np.array(order) - 1]
    assert back.shape == truth.shape and back.dtype == np.uint8
    assert dice(back.astype(bool), truth) >= 0.98


def test_ignoring_the_tilt_would_be_wrong(tmp_path: Path) -> None:
    """For contrast: the pixels of the slices stacked straight above each other, where the affine of that stack says."""
    write_organ(tmp_path, *SERIES["tilted"])
    (series,) = find_series(tmp_path).series
    stack = series.stack
    straight = np.array(stack.affine)
    straight[:3, 2] = np.array([-1, -1, 1]) * stack.slices[0].plane.normal * stack.usual_gap
    volume = read_dicom(tmp_path)
    assert volume.slices is not None
    on_slices = volume.slices.labels_on_slices(labels_of(volume))
    ignored = Volume(on_slices[None], straight)
    assert dice(labels_of(volume).astype(bool), world_truth(volume)) > 0.97
    assert dice(on_slices.astype(bool), world_truth(ignored)) < 0.8


def test_even_gaps_and_a_tilt_of_whole_pixels_only_move_pixels(tmp_path: Path) -> None:
    positions = [(0.0, 0.5 * k, 2.0 * k) for k in range(5)]
    write_organ(tmp_path, positions)
    volume = read_dicom(tmp_path)
    assert volume.slices is not None
    assert volume.shape == (5, ROWS + 4, COLUMNS) and set(np.unique(volume.array)) == {AIR, ORGAN}
    back = volume.slices.labels_on_slices(labels_of(volume))
    slices = [one.source.path for one in volume.slices.stack.slices]
    assert [path.name for path in slices] == [f"slice{k:03d}.dcm" for k in range(5)]
    import pydicom

    stored = np.stack([pydicom.dcmread(path).pixel_array for path in slices])
    np.testing.assert_array_equal(back, stored == ORGAN)


def test_labels_of_another_grid_are_refused(tmp_path: Path) -> None:
    write_organ(tmp_path, *SERIES["tilted"])
    volume = read_dicom(tmp_path)
    assert volume.slices is not None
    with pytest.raises(ValueError, match="do not fit"):
        volume.slices.labels_on_slices(np.zeros((2, 3, 4), np.uint8))
