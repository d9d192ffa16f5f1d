from pathlib import Path
from typing import get_args

import pytest

from stunet.batch.formats import FORMATS, ending_of, label_files
from stunet.batch.outputs import Outputs
from stunet.cli.segmenting import FormatName
from stunet.errors import UserError
from stunet.imaging.formats.dicom_results import DicomDetails


def names(path: str, *formats: str) -> list[tuple[str, str | None]]:
    return [(one.path.name, one.kind) for one in label_files(Path(path), formats)]


def test_the_command_line_knows_all_formats() -> None:
    assert get_args(FormatName) == tuple(FORMATS)


def test_the_name_decides_where_no_format_is_named() -> None:
    assert names("a.nii.gz") == [("a.nii.gz", None)]
    assert names("a.dcm") == [("a.dcm", "labelmap")]
    assert names("a.binary.dcm") == [("a.binary.dcm", "binary")]
    assert names("A.RTSTRUCT.DCM") == [("A.RTSTRUCT.DCM", "rtstruct")]


def test_one_format_is_written_where_the_user_says() -> None:
    assert names("a.dcm", "rtstruct") == [("a.dcm", "rtstruct")]
    assert names("a.dcm", "dicom-seg-binary") == [("a.dcm", "binary")]
    assert names("a.nii", "nifti") == [("a.nii", None)]


def test_several_formats_have_names_of_their_own() -> None:
    expected = [("a.dcm", "labelmap"), ("a.rtstruct.dcm", "rtstruct"), ("a.nii.gz", None)]
    assert names("a.dcm", "dicom-seg", "rtstruct", "nifti") == expected
    assert names("a.rtstruct.dcm", "dicom-seg", "rtstruct") == [
        ("a.rtstruct.dcm", "rtstruct"),
        ("a.seg.dcm", "labelmap"),
    ]
    everything = [name for name, _ in names("a.nii.gz", *FORMATS)]
    assert len(set(everything)) == len(FORMATS)
    assert names("a.nrrd", "nrrd", "nrrd") == [("a.nrrd", None)]


def test_names_that_do_not_suit() -> None:
    with pytest.raises(UserError, match=r"a\.nii\.gz: does not suit --format; end it in \.dcm"):
        label_files(Path("a.nii.gz"), ["dicom-seg", "rtstruct"])
    with pytest.raises(UserError, match="Did you mean 'nifti'"):
        label_files(Path("a.nii.gz"), ["nifty"])


def test_a_folder_of_many() -> None:
    assert ending_of([]) == ".nii.gz" and ending_of(["rtstruct", "nifti"]) == ".rtstruct.dcm"
    outputs = Outputs(formats=("dicom-seg", "nifti"))
    main = outputs.main_path(Path("out"), "p1")
    assert [path.name for path in outputs.paths(main, {})] == ["p1.seg.dcm", "p1.nii.gz"]


def test_options_that_do_not_suit_each_other() -> None:
    path = Path("a.nii.gz")
    with pytest.raises(UserError, match="--codes and --reference are for DICOM"):
        Outputs(dicom=DicomDetails(reference=Path("series"))).require_consistent(path, many=False)
    with pytest.raises(UserError, match="--separate writes NIfTI masks"):
        Outputs(separate=True, formats=("nifti",)).require_consistent(Path("a"), many=False)
    outputs = Outputs(formats=("dicom-seg",), dicom=DicomDetails(reference=Path("series")))
    outputs.require_consistent(Path("a.dcm"), many=False)
    with pytest.raises(UserError, match="for a single scan"):
        outputs.require_consistent(Path("a.dcm"), many=True)
