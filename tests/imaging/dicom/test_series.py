"""What is one scan: grouping, splitting, what is passed over, and which series is chosen."""

from pathlib import Path

import numpy as np
import pytest

from stunet.errors import UserError
from stunet.imaging.formats.dicom.choose import choose, named, read_dicom
from stunet.imaging.formats.dicom.found import find_series
from tests.imaging.dicom.samples import change, write_phases
from tests.phantoms import smooth_scan, write_dicom_series

ORIGINAL = ["ORIGINAL", "PRIMARY", "AXIAL"]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ([{"EchoTime": 2.5}, {"EchoTime": 10}], ["echo 2.5", "echo 10"]),
        ([{"ImageType": [*ORIGINAL[:2], "M"]}, {"ImageType": [*ORIGINAL[:2], "P"]}], None),
        ([{"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}], ["acquisition 1", "acquisition 2"]),
        ([{"AcquisitionTime": "101010"}, {"AcquisitionTime": "101110"}], ["pass 1", "pass 2"]),
        ([{"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}], ["b 0", "b 1000"]),
        (
            [{"EchoTime": e, "TemporalPositionIdentifier": t} for e in (2, 4) for t in (1, 2)],
            [f"echo {e}, time point {t}" for e in (2, 4) for t in (1, 2)],
        ),
    ],
)
def test_volumes_of_one_series_uid_are_taken_apart(tmp_path: Path, fields: list, names: list | None) -> None:
    arrays = [smooth_scan((4, 5, 6), seed) for seed in range(len(fields))]
    write_phases(tmp_path, arrays, fields)
    found = find_series(tmp_path)
    assert [one.part for one in found.series] == (
        names or ["image type ORIGINAL/PRIMARY/M", "image type ORIGINAL/PRIMARY/P"]
    )
    for series, array in zip(found.series, arrays, strict=True):
        np.testing.assert_array_equal(series.read().array[0], array)
    with pytest.raises(UserError, match=f"{len(fields)} series that could be meant"):
        choose(found)


def test_an_acquisition_number_for_each_slice_is_no_split(tmp_path: Path) -> None:
    """Sequential CT counts them up."""
    array = smooth_scan((5, 5, 6))
    for z, path in enumerate(write_dicom_series(tmp_path, array)):
        change(path, AcquisitionNumber=z // 2, AcquisitionTime=f"1010{z:02}")
    np.testing.assert_array_equal(read_dicom(tmp_path).array[0], array)


def test_phases_that_overlap_are_taken_apart(tmp_path: Path) -> None:
    """The second lies 0.7 mm higher, so no two slices lie at one place."""
    arrays = [smooth_scan((4, 5, 6), seed) for seed in range(2)]
    write_phases(tmp_path, arrays, [{"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}])
    for z, path in enumerate(sorted(tmp_path.glob("1_*"))):
        change(path, ImagePositionPatient=[-10, -20, 30.7 + 2 * z])
    assert [one.read().spacing[0] for one in find_series(tmp_path).series] == pytest.approx([2, 2])


ORDERS = {
    "volume by volume": lambda volume, place: 1 + volume * 4 + place,
    "place by place": lambda volume, place: 1 + place * 3 + volume,
    "from the head": lambda volume, place: 1 + volume * 4 + 3 - place,
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_time_series_is_taken_apart_by_the_order_of_its_images(tmp_path: Path, order: str) -> None:
    arrays = [smooth_scan((4, 5, 6), seed) for seed in range(3)]
    write_phases(tmp_path, arrays, [{}, {}, {}])
    for path in tmp_path.iterdir():
        volume, place = int(path.name[0]), int(path.stem[-3:])
        change(path, InstanceNumber=ORDERS[order](volume, place))
    series = find_series(tmp_path).series
    assert [one.part for one in series] == ["volume 1", "volume 2", "volume 3"]
    for one, array in zip(series, arrays, strict=True):
        np.testing.assert_array_equal(one.read().array[0], array)


@pytest.mark.parametrize("numbers", [[1, 2, 3, 4, 1, 2, 3, 4], [1, 3, 4, 6, 2, 8, 5, 7], [1, 2, 3, 4, 5, 6, 7, None]])
def test_images_of_another_order_are_not_taken_apart(tmp_path: Path, numbers: list[int | None]) -> None:
    write_phases(tmp_path, [smooth_scan((4, 5, 6), seed) for seed in range(2)], [{}, {}])
    for path, number in zip(sorted(tmp_path.iterdir()), numbers, strict=True):
        change(path, InstanceNumber=number)
    with pytest.raises(UserError, match="lie at the same position"):
        read_dicom(tmp_path)


def test_a_time_series_with_a_slice_too_few_is_refused(tmp_path: Path) -> None:
    write_phases(tmp_path, [smooth_scan((4, 5, 6), seed) for seed in range(3)], [{}, {}, {}])
    for number, path in enumerate(sorted(tmp_path.iterdir()), 1):
        change(path, InstanceNumber=number)
    (tmp_path / "1_slice002.dcm").unlink()
    with pytest.raises(UserError, match="lie at the same position"):
        read_dicom(tmp_path)


def test_a_lost_slice_does_not_make_volumes_of_the_rest(tmp_path: Path) -> None:
    """Written in batches, so that times of day seem to tell volumes apart."""
    for z, path in enumerate(write_dicom_series(tmp_path, smooth_scan((12, 5, 6)))):
        change(path, ContentTime=f"1010{z % 2 * 2 + (z > 5):02}", AcquisitionTime=f"1009{z % 2:02}")
    (tmp_path / "slice007.dcm").unlink()
    with pytest.raises(UserError, match=r"slices are missing: 4\.00 mm between slice006\.dcm"):
        read_dicom(tmp_path)


def test_copies_are_dropped_and_what_only_looks_so_is_not(tmp_path: Path) -> None:
    array = smooth_scan((4, 5, 6))
    for folder in ("a", "b"):
        write_dicom_series(tmp_path / folder, array)
    np.testing.assert_array_equal(read_dicom(tmp_path).array[0], array)
    change(tmp_path / "b/slice001.dcm", SOPInstanceUID="1.9")
    with pytest.raises(UserError, match=r"slice001\.dcm and slice001\.dcm lie at the same position"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 128 + b"DICM" + b"\x02\x00\xff"])
@pytest.mark.parametrize("name", ["slice009.dcm", "other.DCM"])
def test_an_empty_or_broken_file_in_a_series_refuses_it(tmp_path: Path, name: str, content: bytes) -> None:
    write_dicom_series(tmp_path, smooth_scan((4, 5, 6)))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: (is empty|the DICOM header)"):
        read_dicom(tmp_path)


def test_it_costs_no_series_elsewhere(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "good", smooth_scan((40, 5, 6)))
    write_dicom_series(tmp_path / "bad", smooth_scan((4, 5, 6)), SeriesInstanceUID="1.9")
    (tmp_path / "bad/slice009.dcm").touch()
    assert read_dicom(tmp_path).shape == (40, 5, 6)
    with pytest.raises(UserError, match="is empty"):
        named(find_series(tmp_path), "1.9")[0].read()


def test_a_slice_whose_header_ends_early_refuses_its_series(tmp_path: Path) -> None:
    path = write_dicom_series(tmp_path, smooth_scan((4, 5, 6)))[2]
    change(path, Rows=None, Columns=None, PixelData=None)
    with pytest.raises(UserError, match=r"slice002\.dcm: "):
        read_dicom(tmp_path)


def test_the_model_decides_between_modalities(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "a", smooth_scan((4, 5, 6)))
    mr = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR", "SeriesInstanceUID": "1.9"}
    write_dicom_series(tmp_path / "b", smooth_scan((5, 5, 6)), **mr)
    found = find_series(tmp_path)
    assert [choose(found, lambda kind=kind: kind).modality for kind in ("CT", "MR")] == ["CT", "MR"]
    for unknown in (None, "PT"):
        with pytest.raises(UserError, match="2 series that could be meant"):
            choose(found, lambda kind=unknown: kind)


@pytest.mark.parametrize(
    ("slices", "image_type", "is_clear"),
    [(4, ORIGINAL, False), (3, ORIGINAL, False), (2, ORIGINAL, True), (9, ["DERIVED", "SECONDARY", "AXIAL"], True)],
)
def test_the_plainly_best_ct_is_taken_and_named(tmp_path: Path, slices: int, image_type: list, is_clear: bool) -> None:
    """The original axial one that is at least twice as long as any other."""
    write_dicom_series(tmp_path / "a", smooth_scan((4, 5, 6)), ImageType=ORIGINAL, SeriesDescription="best")
    fields = {"ImageType": image_type, "SeriesInstanceUID": "1.9", "SeriesNumber": 7}
    write_dicom_series(tmp_path / "b", smooth_scan((slices, 5, 6)), **fields)
    if not is_clear:
        with pytest.raises(UserError, match="2 series that could be meant; choose with --series"):
            read_dicom(tmp_path)
        return
    (warning,) = read_dicom(tmp_path).warnings
    assert "took series 1 (best CT, 4 slices) of 2" in warning


def test_a_refused_series_that_is_the_best_is_not_replaced(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "a", smooth_scan((9, 5, 6)))[4].unlink()
    write_dicom_series(tmp_path / "b", smooth_scan((3, 5, 6)), SeriesInstanceUID="1.9")
    with pytest.raises(UserError, match=r"slices are missing: 4\.00 mm"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("name", ["3", "1.2.3", "some"])
def test_unknown_series_are_answered_with_the_table(tmp_path: Path, name: str) -> None:
    write_dicom_series(tmp_path, smooth_scan((4, 5, 6)), SeriesDescription="thorax")
    with pytest.raises(UserError, match=rf"has no series '{name}'(.|\n)*1 +CT +thorax +4 "):
        named(find_series(tmp_path), name)


@pytest.mark.parametrize("fields", [{}, {"ImagePositionPatient": None}])
def test_grids_of_uih_are_named(tmp_path: Path, fields: dict) -> None:
    """With a place in the patient, or without, as real ones are."""
    write_dicom_series(tmp_path, smooth_scan((2, 5, 6)), ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"], **fields)
    with pytest.raises(UserError, match=r"slice000\.dcm: is a GRID"):
        read_dicom(tmp_path)
