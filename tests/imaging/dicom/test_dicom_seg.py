"""Segmentations in DICOM, read back by highdicom and, frame by frame, by pydicom."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from stunet.errors import UserError
from stunet.imaging.formats.dicom_results import Algorithm, DicomDetails
from stunet.imaging.formats.registry import read_volume
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation, Timings
from stunet.labels.codes import CATEGORIES, Code, StructureCode
from stunet.labels.ontology import COLOURS
from tests.imaging.dicom.marked_series import NAMES, ORIENTATIONS, labels_at, segmented, stored, write_phantom
from tests.imaging.dicom.samples import change, write_enhanced
from tests.phantoms import write_dicom_series

KINDS = ("labelmap", "binary")
UNKNOWN_TO_DCIODVFY = {"Information Object Not found", "SegmentNumber not monotonically increasing"}
"""dicom3tools of 2022 know nothing of label maps, whose background is segment 0."""


def labels_by_image(path: Path, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Decode a segmentation with pydicom alone: the labels on each image that a frame refers to."""
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array.reshape(-1, *shape)
    names = {item.SegmentNumber: item.SegmentLabel for item in dataset.SegmentSequence}
    label_of = {name: label for label, name in NAMES.items()}
    found: dict[str, np.ndarray] = {}
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        labels = found.setdefault(source.ReferencedSOPInstanceUID, np.zeros(shape, dtype=np.uint8))
        if dataset.SegmentationType == "LABELMAP":
            for number, name in names.items():
                labels[frame == number] = label_of.get(name, 0)
        else:
            labels[frame > 0] = label_of[names[groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber]]
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_orientation_comes_back(tmp_path: Path, name: str, kind: str) -> None:
    write_phantom(tmp_path / "in", name)
    path = tmp_path / "out.dcm"
    segmented(tmp_path / "in").save_dicom_seg(path, kind)  # type: ignore[arg-type]
    sources = stored(tmp_path / "in")
    assert sum(int((one.pixel_array > 0).sum()) for one in sources.values()) > 800

    decoded = labels_by_image(path, (44, 36))
    for uid, source in sources.items():
        np.testing.assert_array_equal(decoded.get(uid, np.zeros((44, 36))), source.pixel_array)

    segmentation = highdicom.seg.segread(path)
    volume = segmentation.get_volume(combine_segments=True, relabel=False)
    k, i, j = np.indices(volume.spatial_shape)
    points = volume.affine[:3, :3] @ np.stack([k, i, j]).reshape(3, -1) + volume.affine[:3, 3:]
    numbers = {item.SegmentNumber: item.SegmentLabel for item in segmentation.SegmentSequence}
    place_of_left, place_of_right = (
        points[0][volume.array.ravel() == next(number for number, label in numbers.items() if label == wanted)].mean()
        for wanted in ("kidney_left", "kidney_right")
    )
    assert place_of_left == pytest.approx(7, abs=0.5) and place_of_right == pytest.approx(-7, abs=0.5)
    label_of = {label: number for number, label in NAMES.items()}
    table = np.array([label_of.get(numbers.get(number, ""), 0) for number in range(max(numbers) + 1)])
    truth = labels_at(points.T.round(6)).reshape(volume.spatial_shape)
    assert (truth != table[volume.array]).sum() <= 2  # a voxel centre on the surface of a ball


def test_a_label_map_holds_every_slice(tmp_path: Path) -> None:
    write_phantom(tmp_path / "in", "oblique")
    segmented(tmp_path / "in").save(tmp_path / "out.dcm")
    assert set(labels_by_image(tmp_path / "out.dcm", (44, 36))) == set(stored(tmp_path / "in"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_says(tmp_path: Path, kind: str) -> None:
    write_phantom(tmp_path / "in", "axial")
    done = segmented(tmp_path / "in")
    own = StructureCode(CATEGORIES["abnormality"], Code("52988006", "SCT", "Lesion"))
    done = Segmentation(done.labels, NAMES, done.scan, done.timings, algorithm=Algorithm("base", "1.0"))
    done.save_dicom_seg(tmp_path / "out.dcm", kind, DicomDetails({"lesion": own}))  # type: ignore[arg-type]
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    sources = stored(tmp_path / "in")
    source = next(iter(sources.values()))
    for field in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"):
        assert dataset[field].value == source[field].value
    assert dataset.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert dataset.SeriesInstanceUID != source.SeriesInstanceUID and dataset.SeriesNumber == 1004
    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence} == set(sources)
    segments = {one.SegmentLabel: one for one in dataset.SegmentSequence if one.SegmentNumber}
    assert list(segments) == ["kidney_left", "kidney_right", "liver", "lesion"]
    for name, side in (("kidney_left", "Left"), ("kidney_right", "Right")):
        assert segments[name].SegmentedPropertyTypeCodeSequence[0].CodeValue == "64033007"
        assert segments[name].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == side
        assert segments[name].SegmentAlgorithmType == "AUTOMATIC" and segments[name].SegmentAlgorithmName == "base"
        (algorithm,) = segments[name].SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("base", "1.0")
        assert segments[name].TrackingID == name
        colour = highdicom.color.CIELabColor.from_dicom_value(segments[name].RecommendedDisplayCIELabValue).to_rgb()
        np.testing.assert_allclose(colour, COLOURS[name], atol=1)
    assert "SegmentedPropertyTypeModifierCodeSequence" not in segments["liver"]
    assert segments["lesion"].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"
    assert segments["lesion"].SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert len({one.TrackingUID for one in segments.values()}) == 4
    assert dataset.SegmentationType == kind.upper()
    assert dataset.file_meta.TransferSyntaxUID.name == (
        "RLE Lossless" if kind == "labelmap" else "Explicit VR Little Endian"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_labels_with_holes_in_their_numbers(tmp_path: Path, kind: str) -> None:
    labels = np.zeros((5, 12, 10), dtype=np.uint16)
    labels[1:3, 2:5, 2:5], labels[3, 6:9, 5:8] = 7, 300
    write_dicom_series(tmp_path / "in", np.zeros(labels.shape, dtype=np.int16), FrameOfReferenceUID="1.7")
    names = {0: "background", 5: "spleen", 7: "liver", 300: "aorta"}
    done = Segmentation(labels, names, read_volume(tmp_path / "in"), Timings(0, 0, 0, 0))
    done.save_dicom_seg(tmp_path / "out.dcm", kind)  # type: ignore[arg-type]
    segmentation = highdicom.seg.segread(tmp_path / "out.dcm")
    numbers = {one.SegmentLabel: one.SegmentNumber for one in segmentation.SegmentSequence if one.SegmentNumber}
    assert numbers == ({"liver": 7, "aorta": 300} if kind == "labelmap" else {"liver": 1, "aorta": 2})
    read = pydicom.dcmread(tmp_path / "out.dcm").pixel_array
    assert (read == numbers["liver"]).sum() >= 18


def test_overlapping_structures(tmp_path: Path) -> None:
    write_phantom(tmp_path / "in", "axial")
    done = segmented(tmp_path / "in")
    whole = {3: (3, 4), 4: (4,)}
    done = Segmentation(done.labels, NAMES, done.scan, done.timings, members=whole)
    with pytest.raises(UserError, match="overlap"):
        done.save_dicom_seg(tmp_path / "a.dcm")
    done.save_dicom_seg(tmp_path / "b.dcm", "binary")
    dataset = pydicom.dcmread(tmp_path / "b.dcm")
    frames = dataset.pixel_array
    numbers = [
        one.SegmentIdentificationSequence[0].ReferencedSegmentNumber for one in dataset.PerFrameFunctionalGroupsSequence
    ]
    voxels = [int(frames[np.array(numbers) == number].sum()) for number in (3, 4)]
    assert voxels == [int((done.labels >= 3).sum()), int((done.labels == 4).sum())]
    assert [path.name for path in tmp_path.glob("*.dcm")] == ["b.dcm"]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_two_files_in_any_order(tmp_path: Path, kind: str) -> None:
    truth = np.random.default_rng(0).integers(0, 5, (6, 12, 10)).astype(np.int16)
    order = [3, 0, 2]
    for number, half in enumerate((order, [5, 1, 4])):
        frames: list[dict[str, object]] = [{"position": [0, 0, 2.0 * z]} for z in half]
        uid = f"1.2.3.{number}"
        fields = {"SOPInstanceUID": uid, "FrameOfReferenceUID": "1.7"}
        write_enhanced(tmp_path / "in" / f"{number}.dcm", truth[half], frames, **fields)
    done = segmented(tmp_path / "in")
    np.testing.assert_array_equal(done.labels, truth)
    done.save_dicom_seg(tmp_path / "out.dcm", kind)  # type: ignore[arg-type]
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    assert {one.ReferencedSOPInstanceUID for one in dataset.SourceImageSequence} == {"1.2.3.0", "1.2.3.1"}
    assert {one.ReferencedSOPClassUID.name for one in dataset.SourceImageSequence} == {"Enhanced CT Image Storage"}
    for frame, groups in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        half = order if source.ReferencedSOPInstanceUID == "1.2.3.0" else [5, 1, 4]
        expected = truth[half[source.ReferencedFrameNumber - 1]]
        if kind == "binary":
            expected = expected == groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["tilted", "uneven"])
def test_tilted_and_uneven_series_on_their_own_slices(tmp_path: Path, case: str, kind: str) -> None:
    heights = [0, 2, 4, 7, 10, 13] if case == "uneven" else [0, 2, 4, 6, 8, 10]
    truth = np.zeros((6, 20, 16), dtype=np.int16)
    truth[1:5, 6:12, 4:9], truth[2:6, 12:15, 10:14] = 1, 3
    for z, path in enumerate(write_dicom_series(tmp_path / "in", truth, FrameOfReferenceUID="1.7")):
        change(path, ImagePositionPatient=[0, 0.5 * z if case == "tilted" else 0, heights[z]])
    scan = read_volume(tmp_path / "in")
    assert scan.slices is not None
    assert scan.shape != truth.shape
    done = Segmentation(np.rint(scan.array[0]).astype(np.uint8), NAMES, scan, Timings(0, 0, 0, 0))
    expected = scan.slices.labels_on_slices(done.labels)
    assert (expected == truth).mean() > 0.97
    done.save_dicom_seg(tmp_path / "out.dcm", kind)  # type: ignore[arg-type]
    decoded = labels_by_image(tmp_path / "out.dcm", (20, 16))
    for z, one in enumerate(scan.slices.stack.slices):
        np.testing.assert_array_equal(decoded.get(one.sop_uid, np.zeros((20, 16))), expected[z])


def flipped(scan: Volume) -> Volume:
    """The same image with rows that run the other way, as dcm2niix writes it, and another order of axes."""
    array, affine = scan.array[0][:, ::-1], scan.affine.copy()
    affine[:3, 3] += affine[:3, 1] * (array.shape[1] - 1)
    affine[:3, 1] *= -1
    return Volume(array.transpose(0, 2, 1)[None], affine[:, [1, 0, 2, 3]])


def test_labels_of_an_image_on_the_series_it_was_made_from(tmp_path: Path) -> None:
    write_phantom(tmp_path / "in", "axial")
    image = flipped(read_volume(tmp_path / "in"))
    done = Segmentation(image.array[0].astype(np.uint8), NAMES, image, Timings(0, 0, 0, 0))
    with pytest.raises(UserError, match=r"is not DICOM.*--reference"):
        done.save(tmp_path / "out.dcm")
    done.save_dicom_seg(tmp_path / "out.dcm", details=DicomDetails(reference=tmp_path / "in"))
    decoded = labels_by_image(tmp_path / "out.dcm", (44, 36))
    for uid, source in stored(tmp_path / "in").items():
        np.testing.assert_array_equal(decoded[uid], source.pixel_array)
    write_phantom(tmp_path / "other", "axial", (17, 44, 36))
    with pytest.raises(UserError, match="does not lie on the slices"):
        done.save_dicom_seg(tmp_path / "b.dcm", details=DicomDetails(reference=tmp_path / "other"))
    assert not list(tmp_path.glob("b*"))


def test_of_several_series_the_one_on_which_an_image_lies(tmp_path: Path) -> None:
    for number, slices in enumerate((17, 18)):
        write_phantom(tmp_path / f"refs/{slices}", "axial", (slices, 44, 36))
        for path in (tmp_path / f"refs/{slices}").iterdir():
            change(path, SeriesInstanceUID=f"1.5.{number}")
    image = flipped(read_volume(tmp_path / "refs/18"))
    done = Segmentation(image.array[0].astype(np.uint8), NAMES, image, Timings(0, 0, 0, 0))
    done.save_dicom_seg(tmp_path / "out.dcm", details=DicomDetails(reference=tmp_path / "refs"))
    assert pydicom.dcmread(tmp_path / "out.dcm").ReferencedSeriesSequence[0].SeriesInstanceUID == "1.5.1"
    shutil.copytree(tmp_path / "refs/18", tmp_path / "refs/again")
    for path in (tmp_path / "refs/again").iterdir():
        change(path, SeriesInstanceUID="1.5.2")
    with pytest.raises(UserError, match=r"lies on the slices of 2 series in .*give --reference the folder of one"):
        done.save_dicom_seg(tmp_path / "b.dcm", details=DicomDetails(reference=tmp_path / "refs"))


def test_what_a_series_must_have(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "in", np.ones((4, 8, 8), dtype=np.int16))
    with pytest.raises(UserError, match=r"slice000\.dcm: has no FrameOfReferenceUID"):
        segmented(tmp_path / "in").save(tmp_path / "out.dcm")
    assert not list(tmp_path.glob("*.dcm"))


def nothing_found(folder: Path, names: dict[int, str] = NAMES) -> Segmentation:
    """A scan in which no structure was found."""
    write_phantom(folder, "oblique")
    scan = read_volume(folder)
    return Segmentation(np.zeros(scan.shape, dtype=np.uint8), names, scan, Timings(0, 0, 0, 0), members={3: (1, 3)})


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_was_found_all_structures_are_described(tmp_path: Path, kind: str) -> None:
    nothing_found(tmp_path / "in", {**NAMES, 300: "aorta"}).save_dicom_seg(tmp_path / "out.dcm", kind)  # type: ignore[arg-type]
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    described = [one.SegmentLabel for one in dataset.SegmentSequence if one.SegmentNumber]
    assert described == [*list(NAMES.values())[1:], "aorta"]
    assert not dataset.pixel_array.any()
    sources = stored(tmp_path / "in")
    (series,) = dataset.ReferencedSeriesSequence
    assert {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence} == set(sources)
    frames = [one.DerivationImageSequence[0].SourceImageSequence[0] for one in dataset.PerFrameFunctionalGroupsSequence]
    referred = {one.ReferencedSOPInstanceUID for one in frames}
    assert referred == set(sources) if kind == "labelmap" else len(referred) == 1 and len(frames) == len(described)
    segmentation = highdicom.seg.segread(tmp_path / "out.dcm")
    assert not segmentation.get_volume(combine_segments=True).array.any()


def test_where_nothing_was_found_in_frames_of_one_file(tmp_path: Path) -> None:
    frames: list[dict[str, object]] = [{"position": [-5, -6, 2 * z]} for z in range(4)]
    array = np.zeros((4, 8, 8), dtype=np.int16)
    write_enhanced(tmp_path / "in/mf.dcm", array, frames, FrameOfReferenceUID="1.7")
    segmented(tmp_path / "in").save_dicom_seg(tmp_path / "out.dcm", "binary")
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    assert len(dataset.SourceImageSequence) == 1
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        assert groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == 1


def test_names_in_other_letters_stay(tmp_path: Path) -> None:
    write_phantom(tmp_path / "in", "axial")
    for path in (tmp_path / "in").iterdir():
        change(path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    segmented(tmp_path / "in").save(tmp_path / "out.dcm")
    assert pydicom.dcmread(tmp_path / "out.dcm").PatientName == "Müller^Jörg"


def complaints(path: Path) -> set[str]:
    """Errors of dciodvfy, without the place."""
    said = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False).stderr
    return {
        re.sub(r"<.*?>|\[\d+\]| - have .*|^ - ", "", line[8:]) for line in said.splitlines() if line.startswith("Error")
    }


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("made", [segmented, nothing_found])
@pytest.mark.parametrize("kind", [*KINDS, "rtstruct"])
def test_dciodvfy_finds_no_error_that_the_source_had_not(
    tmp_path: Path, kind: str, made: Callable[[Path], Segmentation]
) -> None:
    write_phantom(tmp_path / "in", "oblique")
    made(tmp_path / "in").save_dicom(tmp_path / "out.dcm", kind)  # type: ignore[arg-type]
    new = complaints(tmp_path / "out.dcm") - complaints(next((tmp_path / "in").iterdir()))
    new = {one for one in new if not any(known in one for known in UNKNOWN_TO_DCIODVFY)} if kind == "labelmap" else new
    assert not new
    change(tmp_path / "out.dcm", SOPInstanceUID="")
    assert complaints(tmp_path / "out.dcm")


def test_without_highdicom_the_extra_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantom(tmp_path / "in", "axial")
    done = segmented(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    monkeypatch.delitem(sys.modules, "stunet.imaging.formats.dicom_seg", raising=False)
    monkeypatch.delattr("stunet.imaging.formats.dicom_seg", raising=False)
    with pytest.raises(UserError, match=r"needs highdicom.*\[dicom\]"):
        done.save(tmp_path / "out.dcm")
    assert not list(tmp_path.glob("*.dcm"))


def test_slices_with_an_odd_number_of_pixels(tmp_path: Path) -> None:
    """GDCM's run-length encoder ends the process at these."""
    write_dicom_series(tmp_path / "in", np.zeros((4, 51, 35), np.int16), FrameOfReferenceUID="1.2.3.7")
    labels = np.zeros((4, 51, 35), np.uint8)
    labels[1:3, 10:20, 5:9] = 1
    scan = read_volume(tmp_path / "in")
    Segmentation(labels, {0: "background", 1: "liver"}, scan, Timings(0, 0, 0, 0)).save_dicom_seg(tmp_path / "out.dcm")
    assert np.array_equal(pydicom.dcmread(tmp_path / "out.dcm").pixel_array, labels)
