"""DICOM files with known content, beyond what `tests.phantoms` writes."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from tests.phantoms import write_dicom_series


def change(path: Path, **values: object) -> None:
    """Set header fields of a DICOM file."""
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def write_phases(folder: Path, arrays: list[np.ndarray], changes: list[dict[str, object]]) -> None:
    """Several volumes of one SeriesInstanceUID at the same places, each with its own fields and SOP instances."""
    for number, (array, fields) in enumerate(zip(arrays, changes, strict=True)):
        for z, path in enumerate(write_dicom_series(folder / "one", array, **fields)):
            change(path, SOPInstanceUID=f"1.2.3.{number}.{z + 1}")
            path.rename(folder / f"{number}_{path.name}")
    (folder / "one").rmdir()


def sequence(**values: object) -> list[Dataset]:
    """A sequence of one item."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return [item]


def write_enhanced(path: Path, array_FYX: np.ndarray, frames: list[dict[str, object]], **changes: object) -> None:
    """Write an enhanced CT whose frames are 0.5 mm x 0.75 mm pixels, with slope 1 and intercept 0 unless said.

    Args:
        path: its folder is made.
        array_FYX: int16 stored values, frame by frame.
        frames: for each its position, and any of: orientation, slope, intercept, stack, time_point, type.
        changes: DICOM keywords to set in the file.
    """
    pixels = write_dicom_series(path.parent, array_FYX[:1])[0]
    dataset = pydicom.dcmread(pixels)
    pixels.unlink()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(dataset, keyword)
    dataset.SOPClassUID, dataset.NumberOfFrames = "1.2.840.10008.5.1.4.1.1.2.1", len(frames)
    dataset.PixelData = array_FYX.astype("<i2").tobytes()
    measures = sequence(PixelSpacing=[0.5, 0.75], SliceThickness=2)
    dataset.SharedFunctionalGroupsSequence = sequence(PixelMeasuresSequence=measures)
    dataset.PerFrameFunctionalGroupsSequence = [_groups(**frame) for frame in frames]
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)


def _groups(
    position: list[float],
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    slope: float = 1,
    intercept: float = 0,
    stack: str = "1",
    time_point: int = 1,
    frame_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"),
) -> Dataset:
    groups = Dataset()
    groups.PlanePositionSequence = sequence(ImagePositionPatient=position)
    groups.PlaneOrientationSequence = sequence(ImageOrientationPatient=list(orientation))
    groups.PixelValueTransformationSequence = sequence(RescaleSlope=slope, RescaleIntercept=intercept)
    groups.FrameContentSequence = sequence(StackID=stack, TemporalPositionIndex=time_point)
    groups.CTImageFrameTypeSequence = sequence(FrameType=list(frame_type))
    return groups
