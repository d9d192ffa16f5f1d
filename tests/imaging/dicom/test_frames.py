"""Enhanced multi-frame objects: each frame is a slice where its functional groups say."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from stunet.errors import UserError
from stunet.imaging.formats.dicom.choose import read_dicom
from stunet.imaging.formats.dicom.found import find_series
from stunet.imaging.formats.registry import read_volume
from tests.imaging.dicom.samples import sequence, write_enhanced
from tests.phantoms import smooth_scan, write_dicom_series


def at(z: float, **more: object) -> dict[str, object]:
    return {"position": [-10, -20, 30 + 2 * z], **more}


def test_frames_equal_the_same_slices_in_files_of_their_own(tmp_path: Path) -> None:
    array = smooth_scan((5, 6, 7))
    write_dicom_series(tmp_path / "classic", array)
    write_enhanced(tmp_path / "enhanced/mf.dcm", array, [at(z) for z in range(5)])
    classic, enhanced = read_dicom(tmp_path / "classic"), read_dicom(tmp_path / "enhanced")
    np.testing.assert_array_equal(enhanced.array, classic.array)
    np.testing.assert_array_equal(enhanced.affine, classic.affine)
    np.testing.assert_array_equal(read_volume(tmp_path / "enhanced/mf.dcm").array, classic.array)


def test_positions_decide_and_not_the_order_of_frames(tmp_path: Path) -> None:
    array, order = smooth_scan((5, 6, 7)), [3, 0, 4, 1, 2]
    write_enhanced(tmp_path / "mf.dcm", array[order], [at(z) for z in order])
    np.testing.assert_array_equal(read_dicom(tmp_path).array[0], array)


def test_each_frame_has_its_own_rescaling(tmp_path: Path) -> None:
    array = smooth_scan((4, 6, 7))
    write_enhanced(tmp_path / "mf.dcm", array, [at(z, slope=1 + z / 4, intercept=-z) for z in range(4)])
    factor, offset = 1 + np.arange(4)[:, None, None] / 4, -np.arange(4)[:, None, None]
    np.testing.assert_allclose(read_dicom(tmp_path).array[0], array * factor + offset, atol=1e-3)


def test_a_concatenation_is_one_scan(tmp_path: Path) -> None:
    array = smooth_scan((6, 6, 7))
    for number, frames in enumerate((range(3), range(3, 6))):
        write_enhanced(
            tmp_path / f"{number}.dcm",
            array[list(frames)],
            [at(z) for z in frames],
            ConcatenationUID="1.2.3.9",
            SOPInstanceUID=f"1.2.3.8.{number}",
        )
    np.testing.assert_array_equal(read_dicom(tmp_path).array[0], array)


@pytest.mark.parametrize(
    ("second", "names"),
    [
        ({"time_point": 2}, ["time point 1", "time point 2"]),
        ({"stack": "2"}, ["stack 1", "stack 2"]),
        (
            {"frame_type": ("DERIVED", "PRIMARY", "VOLUME", "MAXIMUM")},
            ["image type DERIVED/PRIMARY/VOLUME/MAXIMUM", "image type ORIGINAL/PRIMARY/VOLUME/NONE"],
        ),
        ({"orientation": (0, 1, 0, 0, 0, -1)}, ["axial 7x6", "sagittal 7x6"]),
    ],
)
def test_volumes_of_one_file_are_taken_apart(tmp_path: Path, second: dict[str, object], names: list[str]) -> None:
    array = smooth_scan((8, 6, 7))
    along_x = "orientation" in second
    places = [{**at(z), **second, **({"position": [2 * z, 0, 0]} if along_x else {})} for z in range(4)]
    write_enhanced(tmp_path / "mf.dcm", array, [*(at(z) for z in range(4)), *places])
    series = find_series(tmp_path).series
    assert [one.part for one in series] == names and not any(one.refusal for one in series)
    arrays = [one.read().array[0] for one in series]
    assert any(np.array_equal(one, array[:4]) for one in arrays)
    assert any(np.array_equal(one, array[4:]) or np.array_equal(one, array[:3:-1]) for one in arrays)


def test_frames_are_told_apart_by_the_dimensions_that_the_file_declares(tmp_path: Path) -> None:
    arrays = [smooth_scan((4, 6, 7), seed) for seed in range(3)]
    write_enhanced(tmp_path / "mf.dcm", np.stack(arrays, axis=1).reshape(12, 6, 7), [at(n // 3) for n in range(12)])
    dataset = pydicom.dcmread(tmp_path / "mf.dcm")
    names = ("StackID", "InStackPositionNumber", "DiffusionGradientOrientation")
    dataset.DimensionIndexSequence = [sequence(DimensionIndexPointer=pydicom.tag.Tag(name))[0] for name in names]
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        frame.FrameContentSequence[0].DimensionIndexValues = [1, number // 3 + 1, number % 3 + 1]
    dataset.save_as(tmp_path / "mf.dcm")
    series = find_series(tmp_path).series
    assert [one.part for one in series] == ["volume 1", "volume 2", "volume 3"]
    for one, array in zip(series, arrays, strict=True):
        np.testing.assert_array_equal(one.read().array[0], array)


def test_files_of_a_time_series_are_volumes(tmp_path: Path) -> None:
    arrays = [smooth_scan((4, 6, 7), seed) for seed in range(2)]
    for number, array in enumerate(arrays, 1):
        uid = f"1.2.9.{number}"
        frames = [at(z) for z in range(4)]
        write_enhanced(tmp_path / f"{number}.dcm", array, frames, SOPInstanceUID=uid, InstanceNumber=number)
    series = find_series(tmp_path).series
    assert [one.part for one in series] == ["volume 1", "volume 2"]
    for one, array in zip(series, arrays, strict=True):
        np.testing.assert_array_equal(one.read().array[0], array)


def write_whole_files(folder: Path, heights: list[list[int]]) -> list[np.ndarray]:
    """Files whose headers are alike, each with frames at some heights."""
    arrays = [smooth_scan((len(places), 6, 7), seed) for seed, places in enumerate(heights)]
    for number, (array, places) in enumerate(zip(arrays, heights, strict=True), 1):
        write_enhanced(folder / f"{number}.dcm", array, [at(z) for z in places], SOPInstanceUID=f"1.2.9.{number}")
    return arrays


def test_whole_files_that_only_their_uid_distinguishes_are_volumes(tmp_path: Path) -> None:
    arrays = write_whole_files(tmp_path, [[0, 1, 2, 3], [3, 2, 1, 0]])
    first, second = find_series(tmp_path).series
    assert (first.part, second.part) == ("volume 1", "volume 2")
    np.testing.assert_array_equal(first.read().array[0], arrays[0])
    np.testing.assert_array_equal(second.read().array[0], arrays[1][::-1])


def test_files_that_share_only_some_places_are_no_volumes(tmp_path: Path) -> None:
    write_whole_files(tmp_path, [[0, 1, 2, 3], [2, 3, 4, 5]])
    with pytest.raises(UserError, match="lie at the same position"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("concatenation", [{}, {"ConcatenationUID": "1.2.3.9"}])
def test_a_broken_file_beside_a_multi_frame_file(tmp_path: Path, concatenation: dict[str, str]) -> None:
    """It cannot belong to a file that is whole by itself, but it may be the rest of a concatenation."""
    array = smooth_scan((4, 6, 7))
    write_enhanced(tmp_path / "mf.dcm", array, [at(z) for z in range(4)], **concatenation)
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\xff")
    if concatenation:
        with pytest.raises(UserError, match=r"broken\.dcm: the DICOM header is damaged"):
            read_dicom(tmp_path)
    else:
        np.testing.assert_array_equal(read_dicom(tmp_path).array[0], array)


def test_directions_of_diffusion_are_volumes(tmp_path: Path) -> None:
    arrays = [smooth_scan((4, 6, 7), seed) for seed in range(2)]
    write_enhanced(tmp_path / "mf.dcm", np.concatenate(arrays), [at(n % 4) for n in range(8)])
    dataset = pydicom.dcmread(tmp_path / "mf.dcm")
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        gradient = sequence(DiffusionGradientOrientation=[1.0, 0.0, 0.0] if number < 4 else [0.0, 1.0, 0.0])
        frame.MRDiffusionSequence = sequence(DiffusionBValue=1000.0, DiffusionGradientDirectionSequence=gradient)
    dataset.save_as(tmp_path / "mf.dcm")
    series = find_series(tmp_path).series
    assert [one.part for one in series] == ["direction 1", "direction 2"]
    assert {one.read().array.sum() for one in series} == {array.sum() for array in arrays}


def test_frames_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "mf.dcm", smooth_scan((8, 6, 7)), [at(z % 4) for z in range(8)])
    with pytest.raises(UserError, match=r"mf\.dcm and mf\.dcm frame 5 lie at the same position"):
        read_dicom(tmp_path)


def test_a_time_series_of_one_slice_is_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "mf.dcm", smooth_scan((4, 6, 7)), [at(1)] * 4)
    with pytest.raises(UserError, match=r"all 4 images lie at the same position \(32\.00 mm\), as in a time series"):
        read_dicom(tmp_path)


def test_fewer_descriptions_than_frames_are_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "mf.dcm", smooth_scan((4, 6, 7)), [at(z) for z in range(4)], NumberOfFrames=5)
    with pytest.raises(UserError, match=r"mf\.dcm: describes 4 of its 5 frames"):
        read_dicom(tmp_path)


def test_frames_without_a_place_are_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "mf.dcm", smooth_scan((2, 6, 7)), [{"position": None}, {"position": None}])
    with pytest.raises(UserError, match="does not say where each frame lies"):
        read_dicom(tmp_path)
