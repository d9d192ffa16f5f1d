"""DICOM series: against SimpleITK's series reader and pydicom's own pixels, and folders that are not one series."""

import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.pixels import get_decoder
from scipy.spatial.transform import Rotation

from stunet.errors import MissingPackageError, UserError
from stunet.imaging.formats.dicom.choose import choose, read_dicom
from stunet.imaging.formats.dicom.found import find_series
from stunet.imaging.formats.dicom.series import Reading
from tests.imaging.test_nifti import itk_affine
from tests.phantoms import smooth_scan, write_dicom_series

MIXED = "dicom_samples/mixed_modalities_ct_mr_pet_rtstruct"
SYNTAXES = "dicom_samples/single_slice_transfer_syntaxes"


def copy(files: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for file in files:
        shutil.copyfile(file, folder / file.name)
    return folder


def change(path: Path, **values: object) -> None:
    """Set header fields of a DICOM file."""
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def itk_series(folder: Path) -> SimpleITK.Image:
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    return SimpleITK.ReadImage(names)


@pytest.mark.parametrize("kind", ["CT", "MR_T1", "PET"])
def test_ct_mr_and_pet_series_are_simpleitks_and_pydicoms(shared_data: Path, tmp_path: Path, kind: str) -> None:
    files = [file for file in sorted((shared_data / MIXED).glob(f"{kind}_*.dcm")) if "RTSTRUCT" not in file.name]
    folder = copy(files, tmp_path / kind)
    volume, image = read_dicom(folder), itk_series(folder)
    np.testing.assert_allclose(volume.array[0], SimpleITK.GetArrayFromImage(image), rtol=1e-6)
    np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-3)
    np.testing.assert_allclose(volume.spacing, image.GetSpacing()[::-1], rtol=1e-5)
    slices = sorted((pydicom.dcmread(file) for file in files), key=lambda one: float(one.ImagePositionPatient[2]))
    for plane, one in zip(volume.array[0], slices, strict=True):
        slope, intercept = float(one.get("RescaleSlope", 1)), float(one.get("RescaleIntercept", 0))
        np.testing.assert_allclose(plane, one.pixel_array * slope + intercept, rtol=1e-6)


def test_jpeg_2000_series_with_empty_uids_lies_where_its_labels_lie(shared_data: Path) -> None:
    """Against SimpleITK, and the world place of the file's own label map, stored in another orientation."""
    folder = shared_data / "totalseg_example/ct_dicom"
    volume = read_dicom(folder)
    names = sorted(folder.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    image = SimpleITK.ReadImage([str(name) for name in names])
    np.testing.assert_array_equal(volume.array[0], SimpleITK.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-3)
    assert volume.array.dtype == np.int16
    labels = SimpleITK.ReadImage(str(shared_data / "totalseg_example/ct_dicom_labels_stunet104.nii.gz"))
    centre = np.array(volume.shape)[::-1] // 2
    world = (volume.affine @ [*centre, 1])[:3] * (-1, -1, 1)
    np.testing.assert_allclose(labels.TransformPhysicalPointToContinuousIndex(world)[0], centre[0], atol=0.01)


def test_order_comes_from_positions_not_names(shared_data: Path) -> None:
    volume = read_dicom(shared_data / "bad_inputs/dicom_good_shuffled_names")
    image = itk_series(shared_data / "bad_inputs/dicom_good_shuffled_names")
    np.testing.assert_array_equal(volume.array[0], SimpleITK.GetArrayFromImage(image))


@pytest.mark.parametrize(
    "name",
    ["BigEndianExplicit", "JPEG2000LosslessOnly", "JPEGLSLossless", "LittleEndianExplicit", "LittleEndianImplicit"],
)
def test_every_transfer_syntax_gives_the_same_pixels(shared_data: Path, tmp_path: Path, name: str) -> None:
    original = pydicom.dcmread(shared_data / SYNTAXES / "LittleEndianExplicit.dcm")
    for z in range(2):
        path = tmp_path / f"{z}.dcm"
        shutil.copyfile(shared_data / SYNTAXES / f"{name}.dcm", path)
        x, y, height = original.ImagePositionPatient
        if z:
            change(path, ImagePositionPatient=[x, y, height + 5])
    expected = original.pixel_array * float(original.RescaleSlope) + float(original.RescaleIntercept)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.array[0], np.stack([expected, expected]))


def test_a_missing_decoder_is_asked_for(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for z in range(2):
        shutil.copyfile(shared_data / SYNTAXES / "JPEG2000LosslessOnly.dcm", tmp_path / f"{z}.dcm")
    x, y, height = pydicom.dcmread(tmp_path / "1.dcm").ImagePositionPatient
    change(tmp_path / "1.dcm", ImagePositionPatient=[x, y, height + 5])
    monkeypatch.setattr(get_decoder(pydicom.uid.JPEG2000Lossless), "_available", {})
    with pytest.raises(MissingPackageError, match=r"\.dcm: is compressed, .* pip install '\.\[dicom\]'"):
        read_dicom(tmp_path)


def test_rows_and_columns_are_not_confused(tmp_path: Path) -> None:
    array = smooth_scan((4, 5, 6))
    write_dicom_series(tmp_path, array)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.array[0], array)
    assert volume.spacing == (2.0, 0.5, 0.75)
    np.testing.assert_allclose(volume.affine, [[-0.75, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1]])


def test_each_slice_has_its_own_rescaling(tmp_path: Path) -> None:
    array = smooth_scan((4, 5, 6))
    paths = write_dicom_series(tmp_path, array)
    for z, path in enumerate(paths):
        change(path, RescaleSlope=1 + z / 4, RescaleIntercept=-z)
    expected = array * (1 + np.arange(4) / 4)[:, None, None] - np.arange(4)[:, None, None]
    np.testing.assert_allclose(read_dicom(tmp_path).array[0], expected, atol=1e-3)


def test_values_beyond_int16_become_float32(tmp_path: Path) -> None:
    array = np.full((3, 4, 4), 30000, np.int16)
    paths = write_dicom_series(tmp_path, array)
    change(paths[2], RescaleIntercept=10000)
    volume = read_dicom(tmp_path)
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array[0, :, 0, 0], [30000, 30000, 40000])


def test_other_files_are_passed_over_and_said_so(tmp_path: Path) -> None:
    array = smooth_scan((4, 5, 6))
    write_dicom_series(tmp_path, array)
    change(
        write_dicom_series(tmp_path / "scout", array[:1], SeriesInstanceUID="1.9")[0],
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    shutil.move(tmp_path / "scout/slice000.dcm", tmp_path / "scout.dcm")
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty").touch()
    volume = read_dicom(tmp_path)
    assert volume.shape == (4, 5, 6)
    (warning,) = volume.warnings
    assert all(part in warning for part in ("1 x file that is not DICOM", "1 x localizer", "1 x unreadable file"))


def without_preamble(paths: list[Path]) -> None:
    """Leave only the data set, as files from old archives are; without file meta it is implicit little endian."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        buffer = pydicom.filebase.DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, True
        pydicom.filewriter.write_dataset(buffer, dataset)
        path.write_bytes(buffer.getvalue())


def test_files_without_preamble_are_read(tmp_path: Path) -> None:
    array = smooth_scan((4, 5, 6))
    paths = write_dicom_series(tmp_path, array)
    expected = read_dicom(tmp_path)
    without_preamble(paths)
    assert paths[0].read_bytes()[128:132] != b"DICM"
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.array, expected.array)
    np.testing.assert_array_equal(volume.affine, expected.affine)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("keep_preamble", [True, False])
def test_monochrome1_is_stored_times_slope_plus_intercept(tmp_path: Path, signed: int, keep_preamble: bool) -> None:
    """GDCM inverts what is shown inverted; the values in the file mean the same as ever."""
    stored = smooth_scan((4, 5, 6)) + (0 if signed else 1024)
    changes = {"PhotometricInterpretation": "MONOCHROME1", "PixelRepresentation": signed}
    paths = write_dicom_series(tmp_path, stored, RescaleSlope=2, RescaleIntercept=-1024, **changes)
    if not keep_preamble:
        without_preamble(paths)
    np.testing.assert_array_equal(read_dicom(tmp_path).array[0], stored.astype(np.int32) * 2 - 1024)


def test_cosines_of_three_digits_are_no_tilt(tmp_path: Path) -> None:
    """A slice turned about two axes; its cosines rounded, its positions not."""
    exact = Rotation.from_euler("xyz", [20, 10, 5], degrees=True).as_matrix()
    cosines = [round(float(value), 3) for value in (*exact[:, 0], *exact[:, 1])]
    for z, path in enumerate(write_dicom_series(tmp_path, smooth_scan((9, 5, 6)))):
        change(path, ImagePositionPatient=list(np.round(2 * z * exact[:, 2], 4)), ImageOrientationPatient=cosines)
    volume = read_dicom(tmp_path)
    np.testing.assert_allclose(volume.spacing, (2, 0.5, 0.75), rtol=1e-3)
    expected = np.diag([-1, -1, 1]) @ exact * (0.75, 0.5, 2)
    np.testing.assert_allclose(volume.affine[:3, :3], expected, atol=2e-3)


def test_the_one_series_below_a_folder_is_read(tmp_path: Path) -> None:
    """As a disc holds it: an index on top, the slices three folders down."""
    array = smooth_scan((4, 5, 6))
    write_dicom_series(tmp_path / "disc/patient/study/series", array)
    (tmp_path / "disc/DICOMDIR").write_text("an index")
    (tmp_path / "disc/patient/study/._slice").write_text("of macOS")
    volume = read_dicom(tmp_path / "disc")
    np.testing.assert_array_equal(volume.array[0], array)
    assert volume.source == str(tmp_path / "disc/patient/study/series")
    write_dicom_series(tmp_path / "disc/patient/study/other", array[:3], SeriesInstanceUID="1.9", SeriesNumber=2)
    with pytest.raises(UserError, match=r"holds 2 series(.|\n)*1 +CT +4 (.|\n)*2 +CT +3 "):
        read_dicom(tmp_path / "disc")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    """SimpleITK ends the process when it is given such a name."""
    array = smooth_scan((4, 5, 6))
    for path in write_dicom_series(tmp_path / os.fsdecode(b"caf\xe9"), array)[:2]:
        path.rename(path.with_name(os.fsdecode(b"\xff" + path.name.encode())))
    np.testing.assert_array_equal(read_dicom(tmp_path / os.fsdecode(b"caf\xe9")).array[0], array)


def test_a_shift_of_slices_is_a_tilt(tmp_path: Path) -> None:
    for z, path in enumerate(write_dicom_series(tmp_path, smooth_scan((4, 5, 6)))):
        change(path, ImagePositionPatient=[0, 0.5 * z, 2 * z])
    (series,) = find_series(tmp_path).series
    assert series.remarks == ("tilted by 14.0 degrees",)
    with pytest.raises(UserError, match=r"tilted by 14\.0 degrees"):
        choose(find_series(tmp_path, Reading(strict_geometry=True))).read()


def test_a_slice_shifted_within_its_plane_is_refused(tmp_path: Path) -> None:
    for z, path in enumerate(write_dicom_series(tmp_path, smooth_scan((4, 5, 6)))):
        change(path, ImagePositionPatient=[0, 1.0 if z == 2 else 0.0, 2 * z])
    with pytest.raises(UserError, match=r"slice002\.dcm is shifted by 1\.00 mm"):
        read_dicom(tmp_path)


@pytest.mark.parametrize(("gap", "is_read"), [(2, True), (5, True), (20, False)])
def test_two_slices_lie_as_far_apart_as_they_are_thick(tmp_path: Path, gap: int, is_read: bool) -> None:
    paths = write_dicom_series(tmp_path, smooth_scan((2, 5, 6)), SliceThickness=2)
    change(paths[1], ImagePositionPatient=[-10, -20, 30 + gap])
    if is_read:
        assert read_dicom(tmp_path).spacing[0] == gap
    else:
        with pytest.raises(UserError, match=r"slices are missing: 20\.00 mm between .* but slices are 2\.00 mm thick"):
            read_dicom(tmp_path)


def test_rounded_positions_are_even_enough(tmp_path: Path) -> None:
    for z, path in enumerate(write_dicom_series(tmp_path, smooth_scan((7, 5, 6)))):
        change(path, ImagePositionPatient=[0, 0, round(z * 0.625, 2)])
    assert read_dicom(tmp_path).spacing[0] == pytest.approx(0.625, abs=1e-3)


@pytest.mark.parametrize(
    ("which", "values", "reason"),
    [
        (2, {"ImagePositionPatient": [-10, -20, 32]}, "slice001.dcm and slice002.dcm lie at the same position"),
        (3, {"ImagePositionPatient": [-10, -20, 40], "InstanceNumber": 6}, "6.00 mm between slice002.dcm"),
        (2, {"PixelSpacing": [0.5, 0.8]}, "slice000.dcm and slice002.dcm differ"),
        (2, {"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]}, "slice000.dcm and slice002.dcm differ"),
        (2, {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "slice002.dcm: the orientation"),
        (2, {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "slice002.dcm: the orientation"),
        (2, {"ImageOrientationPatient": [1, 0, 0]}, "slice002.dcm: the DICOM header holds impossible values"),
        (2, {"PixelSpacing": [0.5]}, "slice002.dcm: the DICOM header holds impossible values"),
        (2, {"SeriesInstanceUID": "1.7", "SeriesDescription": "thin"}, "slices are missing: 4.00 mm between slice001"),
        (2, {"NumberOfFrames": 2}, "multi-frame"),
    ],
)
def test_what_is_not_one_even_series_is_refused(tmp_path: Path, which: int, values: dict, reason: str) -> None:
    paths = write_dicom_series(tmp_path, smooth_scan((4, 5, 6)))
    change(paths[which], **values)
    with pytest.raises(UserError, match=reason) as caught:
        read_dicom(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_missing_pixels_are_noticed(tmp_path: Path) -> None:
    """GDCM would fill up what a slice lacks."""
    paths = write_dicom_series(tmp_path, smooth_scan((4, 64, 64)))
    change(paths[2], PixelData=bytes(2 * 64 * 32))
    with pytest.raises(UserError, match=r"slice002\.dcm: holds fewer pixels than its 64x64"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("name", ["LittleEndianExplicit", "JPEG2000LosslessOnly", "JPEGLSLossless"])
def test_cut_files_are_noticed(shared_data: Path, tmp_path: Path, name: str) -> None:
    content = (shared_data / SYNTAXES / f"{name}.dcm").read_bytes()
    (tmp_path / "0.dcm").write_bytes(content)
    x, y, height = pydicom.dcmread(tmp_path / "0.dcm").ImagePositionPatient
    change(tmp_path / "0.dcm", ImagePositionPatient=[x, y, height + 5])
    (tmp_path / "1.dcm").write_bytes(content[: int(len(content) * 0.99)])
    with pytest.raises(UserError, match=r"1\.dcm: (holds fewer|the pixels cannot be decoded)"):
        read_dicom(tmp_path)


def test_absurd_claims_are_refused_before_pixels_are_read(tmp_path: Path) -> None:
    for path in write_dicom_series(tmp_path / "huge", smooth_scan((4, 5, 6))):
        change(path, Rows=60000, Columns=60000)
        with path.open("r+b") as file:
            file.truncate(60000 * 60000 * 2)  # sparse: takes no room
    with pytest.raises(UserError, match="60000x60000x4"):
        read_dicom(tmp_path / "huge")
    for path in write_dicom_series(tmp_path / "packed", smooth_scan((2, 5, 6))):
        dataset = pydicom.dcmread(path)
        dataset.Rows = dataset.Columns = 30000
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
        dataset.PixelData = pydicom.encaps.encapsulate([b"nothing"])
        dataset["PixelData"].VR = "OB"
        dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(UserError, match="fewer pixels than its 30000x30000"):
        read_dicom(tmp_path / "packed")
    write_dicom_series(tmp_path / "spacing", smooth_scan((4, 5, 6)), PixelSpacing=[0, 0.5])
    with pytest.raises(UserError, match="singular"):
        read_dicom(tmp_path / "spacing")


def test_folders_without_a_scan_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no DICOM slices .no files"):
        read_dicom(tmp_path)
    (tmp_path / "notes.txt").write_text("not DICOM")
    with pytest.raises(UserError, match="1 x file that is not DICOM"):
        read_dicom(tmp_path)
    write_dicom_series(tmp_path, smooth_scan((1, 5, 6)))
    with pytest.raises(UserError, match=r"single slice .slice000"):
        read_dicom(tmp_path)


@pytest.mark.filterwarnings("ignore")  # pydicom's
def test_any_damage_to_a_header_is_a_sentence_or_a_volume(tmp_path: Path) -> None:
    """Of a slice with and without preamble, and files of noise and of text."""
    paths = write_dicom_series(tmp_path, smooth_scan((3, 5, 6)))
    whole, random = paths[1].read_bytes(), np.random.default_rng(0)
    refused = 0
    for number in range(300):
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(132, len(whole) - 60, 3)] = random.integers(0, 256)
        noise = random.integers(32, 127 if number % 2 else 256, 500).astype(np.uint8)
        paths[1].write_bytes([content.tobytes(), content.tobytes()[132:], noise.tobytes()][number % 3])
        try:
            assert np.isfinite(read_dicom(tmp_path).affine).all()
        except UserError as error:
            refused += 1
            assert str(tmp_path) in str(error)
    assert refused > 50
