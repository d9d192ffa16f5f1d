"""Structure sets, drawn again by matplotlib on the images that their contours refer to."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon

from stunet.inference.segmentation import Segmentation
from stunet.labels.ontology import COLOURS
from tests.imaging.dicom.marked_series import NAMES, ORIENTATIONS, segmented, stored, write_phantom


def masks_by_image(path: Path, sources: dict[str, pydicom.Dataset]) -> dict[tuple[str, str], np.ndarray]:
    """The voxel centres inside of each structure's contours: by name and image."""
    dataset = pydicom.dcmread(path)
    names = {item.ROINumber: item.ROIName for item in dataset.StructureSetROISequence}
    masks: dict[tuple[str, str], np.ndarray] = {}
    for region in dataset.ROIContourSequence:
        for contour in region.ContourSequence:
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            source = sources[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            key = names[region.ReferencedROINumber], source.SOPInstanceUID
            mask = masks.setdefault(key, np.zeros((source.Rows, source.Columns), dtype=bool))
            mask |= inside(contour, source)
    return masks


def inside(contour: pydicom.Dataset, source: pydicom.Dataset) -> np.ndarray:
    points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
    assert len(points) == contour.NumberOfContourPoints
    row, column = np.array(source.ImageOrientationPatient, dtype=float).reshape(2, 3)
    relative = points - np.array(source.ImagePositionPatient, dtype=float)
    assert np.abs(relative @ np.cross(row, column)).max() < 1e-3
    down, along = (float(value) for value in source.PixelSpacing)
    x, y = relative @ row / along, relative @ column / down
    rows, columns = np.indices((source.Rows, source.Columns))
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1)
    drawn: np.ndarray = Polygon(np.stack([x, y], axis=1)).contains_points(centres)
    return drawn.reshape(source.Rows, source.Columns)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_orientation_comes_back(tmp_path: Path, name: str) -> None:
    write_phantom(tmp_path / "in", name)
    segmented(tmp_path / "in").save_rtstruct(tmp_path / "out.dcm")
    sources = stored(tmp_path / "in")
    masks = masks_by_image(tmp_path / "out.dcm", sources)
    for label in (1, 2, 3, 4):
        both = drawn = truth = 0
        for uid, source in sources.items():
            mask = masks.get((NAMES[label], uid), np.zeros((source.Rows, source.Columns), dtype=bool))
            expected = source.pixel_array == label
            both, drawn, truth = both + (mask & expected).sum(), drawn + mask.sum(), truth + expected.sum()
        assert truth > 10
        assert 2 * both / (drawn + truth) >= 0.999


def test_left_stays_left(tmp_path: Path) -> None:
    write_phantom(tmp_path / "in", "sagittal")
    segmented(tmp_path / "in").save(tmp_path / "out.rtstruct.dcm")
    dataset = pydicom.dcmread(tmp_path / "out.rtstruct.dcm")
    for number, centre in ((1, 7), (2, -7)):
        contours = dataset.ROIContourSequence[number - 1].ContourSequence
        x = np.concatenate([np.array(one.ContourData, dtype=float)[::3] for one in contours])
        assert x.mean() == pytest.approx(centre, abs=0.5)


def test_what_it_says(tmp_path: Path) -> None:
    write_phantom(tmp_path / "in", "axial")
    segmented(tmp_path / "in").save_rtstruct(tmp_path / "out.dcm")
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    sources = stored(tmp_path / "in")
    source = next(iter(sources.values()))
    assert dataset.PatientName == source.PatientName and dataset.StudyInstanceUID == source.StudyInstanceUID
    assert [one.ROIName for one in dataset.StructureSetROISequence] == list(NAMES.values())[1:]
    assert [tuple(one.ROIDisplayColor) for one in dataset.ROIContourSequence][:3] == [
        COLOURS[name] for name in ("kidney_left", "kidney_right", "liver")
    ]
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert {one.ReferencedSOPInstanceUID for one in series.ContourImageSequence} == set(sources)
    observed = dataset.RTROIObservationsSequence[1].RTROIIdentificationCodeSequence[0]
    assert observed.CodeMeaning == "Kidney"
    assert observed.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Right"


def test_structures_that_overlap_are_whole(tmp_path: Path) -> None:
    write_phantom(tmp_path / "in", "axial")
    done = segmented(tmp_path / "in")
    Segmentation(done.labels, NAMES, done.scan, done.timings, members={3: (1, 3)}).save_rtstruct(tmp_path / "out.dcm")
    masks = masks_by_image(tmp_path / "out.dcm", stored(tmp_path / "in"))
    voxels = sum(int(mask.sum()) for (name, _), mask in masks.items() if name == "liver")
    assert voxels == np.isin(done.labels, (1, 3)).sum()


def test_where_nothing_was_found_all_structures_are_described(tmp_path: Path) -> None:
    write_phantom(tmp_path / "in", "axial")
    done = segmented(tmp_path / "in")
    empty = np.zeros_like(done.labels)
    Segmentation(empty, NAMES, done.scan, done.timings).save_rtstruct(tmp_path / "out.dcm")
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    assert [one.ROIName for one in dataset.StructureSetROISequence] == list(NAMES.values())[1:]
    assert [one.ReferencedROINumber for one in dataset.ROIContourSequence] == [1, 2, 3, 4]
    assert not any("ContourSequence" in one for one in dataset.ROIContourSequence)
