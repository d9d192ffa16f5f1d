"""A phantom with a left and a right, in DICOM series of any orientation."""

from pathlib import Path

import numpy as np
import pydicom

from stunet.imaging.formats.registry import read_volume
from stunet.inference.segmentation import Segmentation, Timings
from tests.imaging.dicom.samples import change
from tests.phantoms import write_dicom_series

NAMES = {0: "background", 1: "kidney_left", 2: "kidney_right", 3: "liver", 4: "lesion"}

SPACING = np.array([0.75, 0.5, 2.0])
"""mm along a row, down a column, and across slices, as `tests.phantoms.write_dicom_series` has them."""

ORIENTATIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "head first": ((1, 0, 0), (0, -1, 0)),
    "prone": ((-1, 0, 0), (0, -1, 0)),
    "decubitus": ((0, 1, 0), (-1, 0, 0)),
    "mirrored": ((-1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "oblique": ((0.8, 0.36, 0.48), (-0.6, 0.48, 0.64)),
}
"""Directions of a row and of a column, LPS."""

COMMON = {
    "FrameOfReferenceUID": "1.2.3.7",
    "PatientName": "Test^Phantom",
    "PatientID": "P1",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "StudyDate": "20200101",
    "StudyTime": "120000",
    "StudyID": "S1",
    "AccessionNumber": "A1",
    "ReferringPhysicianName": "",
    "SeriesNumber": 4,
    "PositionReferenceIndicator": "",
    "PatientPosition": "",
    "Manufacturer": "",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "AcquisitionNumber": 1,
    "KVP": None,
    "SliceThickness": 2,
}


def labels_at(points_LPS: np.ndarray) -> np.ndarray:
    """The phantom at (..., 3) points: kidneys on their sides, the right one smaller, and a liver with holes."""

    def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
        return np.asarray(((points_LPS - centre) ** 2).sum(axis=-1) < radius**2)

    labels = np.zeros(points_LPS.shape[:-1], dtype=np.uint8)
    labels[ball((7, 3, -3), 3.5)] = 1
    labels[ball((-7, 4, 1), 2.5)] = 2
    labels[ball((-2, -3, 4), 6) & ~ball((-3, -3, 4), 3)] = 3
    labels[ball((-3, -3, 4), 1.4)] = 4
    return labels


def write_phantom(folder: Path, name: str, shape: tuple[int, int, int] = (18, 44, 36)) -> None:
    """Write the phantom; a pixel's stored value is its label, and the names of the files say nothing of their order."""
    row, column = (np.array(direction, dtype=float) for direction in ORIENTATIONS[name])
    axes = np.stack([row, column, np.cross(row, column)])
    first = -((np.array(shape[::-1]) - 1) / 2 * SPACING) @ axes
    z, y, x = np.indices(shape)
    points = first + (np.stack([x, y, z], axis=-1) * SPACING) @ axes
    paths = write_dicom_series(folder, labels_at(points).astype(np.int16), **COMMON)
    for number, path in enumerate(paths):
        position = [round(float(value), 6) for value in first + number * SPACING[2] * axes[2]]
        change(path, ImagePositionPatient=position, ImageOrientationPatient=[*row, *column])
        path.rename(folder / f"{(number * 7) % len(paths):03d}.dcm")


def segmented(folder: Path) -> Segmentation:
    """The series, with its own values as labels."""
    scan = read_volume(folder)
    return Segmentation(scan.array[0].astype(np.uint8), NAMES, scan, Timings(0, 0, 0, 0))


def stored(folder: Path) -> dict[str, pydicom.Dataset]:
    """The files by SOPInstanceUID."""
    headers = (pydicom.dcmread(path) for path in folder.iterdir())
    return {header.SOPInstanceUID: header for header in headers}
