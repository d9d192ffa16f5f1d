"""`stunet predict` with results in DICOM, and what of the patient stays out of all other files."""

import json
import zlib

import nibabel
import numpy as np
import pydicom
import pytest

from stunet.imaging.formats.registry import read_volume
from tests.imaging.dicom.marked_series import COMMON
from tests.imaging.dicom.samples import change
from tests.phantoms import smooth_scan, write_dicom_series

MARKS = {
    "PatientName": "Zweifelhaft^Qörina",
    "PatientID": "ID-7741-XQ",
    "PatientBirthDate": "19331107",
    "OtherPatientIDs": "OTHER-5512",
    "AccessionNumber": "ACC-90210",
    "StudyDate": "20070913",
    "SeriesDate": "20070914",
    "AcquisitionDate": "20070915",
    "ContentDate": "20070916",
    "ReferringPhysicianName": "Einweiserin^Ulla",
    "InstitutionName": "Klinik-Hinterberg",
}


@pytest.fixture
def series(tmp_path):
    fields = {**COMMON, **MARKS, "SpecificCharacterSet": "ISO_IR 100"}
    write_dicom_series(tmp_path / "scan", smooth_scan((20, 18, 12)), **fields)
    return tmp_path / "scan"


def test_several_formats_at_once(stunet, capsys, series, model_file, tmp_path):
    formats = ("--format", "dicom-seg", "rtstruct", "dicom-seg-binary", "nifti", "seg.nrrd")
    assert stunet("predict", "-i", series, "-o", tmp_path / "out.dcm", "-m", model_file, *formats, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    names = ["out.dcm", "out.seg.nrrd", "out.nii.gz", "out.binary.dcm", "out.rtstruct.dcm"]
    assert record["files"] == [str(tmp_path / name) for name in names]
    labels = np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj).T
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    assert np.array_equal(dataset.pixel_array[::-1], labels)  # highdicom writes the uppermost slice first
    (model,) = {one.SegmentAlgorithmName for one in dataset.SegmentSequence if one.SegmentNumber}
    version = dataset.SegmentSequence[1].SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion
    assert model == record["model"]["name"] and version.endswith(record["model"]["card_sha256"][:12])
    assert pydicom.dcmread(tmp_path / "out.binary.dcm").SegmentationType == "BINARY"
    assert pydicom.dcmread(tmp_path / "out.rtstruct.dcm").Modality == "RTSTRUCT"


def test_a_folder_of_patients(stunet, model_file, tmp_path):
    for number in range(2):
        fields = {**COMMON, "StudyInstanceUID": f"1.{number}", "SeriesInstanceUID": f"1.{number}.1"}
        write_dicom_series(tmp_path / f"in/p{number}", smooth_scan((20, 18, 12), number), **fields)
    places = ("-i", tmp_path / "in", "-o", tmp_path / "out")
    command = ("predict", *places, "-m", model_file, "--format", "dicom-seg", "nifti")
    assert stunet(*command) == 0
    assert {path.name for path in (tmp_path / "out").glob("p*")} == {
        *("p0.seg.dcm", "p0.nii.gz", "p1.seg.dcm", "p1.nii.gz")
    }
    (tmp_path / "out/p1.nii.gz").unlink()
    assert stunet(*command, "--resume") == 0
    assert (tmp_path / "out/p1.nii.gz").exists()


def test_own_codes_and_a_reference(stunet, capsys, series, model_file, tmp_path):
    scan = read_volume(series)
    image = nibabel.Nifti1Image(scan.array[0].T, scan.affine)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    codes = tmp_path / "codes.toml"
    codes.write_text('[class_1]\ncode = "C1"\nscheme = "99CLINIC"\nmeaning = "First"\n')
    places = ("-i", tmp_path / "scan.nii.gz", "-o", tmp_path / "out.dcm")
    command = ("predict", *places, "-m", model_file, "--codes", codes)
    capsys.readouterr()
    assert stunet(*command) == 2
    assert "scan.nii.gz: is not DICOM" in capsys.readouterr().err
    assert stunet(*command, "--reference", series) == 0
    segments = pydicom.dcmread(tmp_path / "out.dcm").SegmentSequence
    assert {one.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator for one in segments} == {
        *("DCM", "99CLINIC", "99STUNET")
    }
    codes.write_text('[klass_1]\ncode = "C1"\nmeaning = "First"\n')
    assert stunet(*command, "--reference", series) == 2
    assert "no structure 'klass_1'. Did you mean 'class_1'" in capsys.readouterr().err


def texts(path):
    """The bytes of a file, unpacked where they are packed."""
    content = path.read_bytes()
    yield content
    if path.suffix == ".gz":
        yield zlib.decompress(content, wbits=31)
    if path.suffix == ".png":
        from PIL import Image

        yield repr(Image.open(path).info).encode()


def found_in(content):
    """Marks in a text, as they are and in the parts of a name."""
    words = [part for value in MARKS.values() for part in value.split("^")]
    return [word for word in words if any(word.encode(code) in content for code in ("utf-8", "latin-1"))]


def test_the_patient_stays_out_of_all_that_is_not_dicom(stunet, capfd, caplog, recwarn, series, model_file, tmp_path):
    bad = tmp_path / "bad"
    write_dicom_series(bad, smooth_scan((20, 18, 12)), **{**COMMON, **MARKS, "FrameOfReferenceUID": "", "StudyID": ""})
    change(bad / "slice003.dcm", PatientBirthDate="", PatientSex="")
    out = tmp_path / "out"
    wanted = ("--statistics", "--preview", "--itksnap", "--slicer", "--probabilities")
    formats = ("--format", "nifti", "nrrd", "seg.nrrd", "dicom-seg", "dicom-seg-binary", "rtstruct")
    assert stunet("predict", "-i", series, "-o", out / "one.nii.gz", "-m", model_file, *wanted, *formats) == 0
    assert stunet("predict", "-i", tmp_path, "-o", out / "many", "-m", model_file, *wanted, "--series", "all") == 0
    assert stunet("predict", "-i", bad, "-o", out / "bad.dcm", "-m", model_file) == 2
    assert stunet("series", tmp_path) == 0
    assert stunet("series", tmp_path, "--json") == 0

    dicom = list(out.rglob("*.dcm"))
    assert len(dicom) == 3
    for path in dicom:
        dataset = pydicom.dcmread(path)
        assert dataset.PatientName == MARKS["PatientName"] and dataset.PatientID == MARKS["PatientID"]
        assert dataset.StudyDate == MARKS["StudyDate"] and dataset.AccessionNumber == MARKS["AccessionNumber"]
    others = [path for path in out.rglob("*") if path.is_file() and path not in dicom]
    assert {path.suffix for path in others} >= {".gz", ".nrrd", ".json", ".png", ".txt", ".ctbl"}
    for path in others:
        assert not found_in(str(path.relative_to(tmp_path)).encode())
        for content in texts(path):
            assert not found_in(content), path
    captured = capfd.readouterr()
    assert "FrameOfReferenceUID" in captured.err
    said = "\n".join([captured.out, captured.err, caplog.text, *(str(one.message) for one in recwarn.list)])
    assert not found_in(said.encode())
    assert found_in(dicom[0].read_bytes())
