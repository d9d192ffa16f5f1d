"""PET as SUV by body weight, against the formula written out, and what lacks the tags for it."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from stunet.errors import UserError
from stunet.imaging.formats.dicom.choose import choose, read_dicom
from stunet.imaging.formats.dicom.found import find_series
from stunet.imaging.formats.dicom.series import Reading
from tests.imaging.dicom.samples import sequence
from tests.phantoms import write_dicom_series

HALF_LIFE = 6586.2
"""Seconds, of fluorine-18."""

ACTIVITY = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4) * 100


def dose(**changes: object) -> list[Dataset]:
    fields = {"RadionuclideTotalDose": 350e6, "RadionuclideHalfLife": HALF_LIFE, "RadiopharmaceuticalStartTime": "0900"}
    return sequence(**{**fields, **changes})


def write_pet(folder: Path, **changes: object) -> None:
    fields = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128",
        "Modality": "PT",
        "Units": "BQML",
        "DecayCorrection": "START",
        "PatientWeight": 70,
        "SeriesDate": "20200102",
        "SeriesTime": "100000.5",
        "AcquisitionDate": "20200102",
        "AcquisitionTime": "100000.5",
        "RadiopharmaceuticalInformationSequence": dose(),
    }
    write_dicom_series(folder, ACTIVITY, **{**fields, **changes})


def read(folder: Path) -> np.ndarray:
    return choose(find_series(folder, Reading(suv=True))).read().array[0]


def expected(waited: float) -> np.ndarray:
    return ACTIVITY * 70_000.0 / (350e6 * np.exp(-np.log(2) * waited / HALF_LIFE))


@pytest.mark.parametrize(
    ("changes", "waited"),
    [
        ({}, 3600),
        ({"DecayCorrection": "ADMIN"}, 0),
        ({"SeriesTime": "001000", "AcquisitionTime": "001000",
          "RadiopharmaceuticalInformationSequence": dose(RadiopharmaceuticalStartTime="2340")}, 1800),
        ({"RadiopharmaceuticalInformationSequence": dose(RadiopharmaceuticalStartDateTime="20200102083000.00")}, 5400),
        ({"AcquisitionTime": "100500"}, 3600),
    ],
)  # fmt: skip
def test_suv_is_activity_times_weight_over_the_dose_that_is_left(tmp_path: Path, changes: dict, waited: float) -> None:
    write_pet(tmp_path, **changes)
    np.testing.assert_allclose(read(tmp_path), expected(waited), rtol=1e-6)


def test_it_is_off_by_default_and_values_in_suv_stay(tmp_path: Path) -> None:
    write_pet(tmp_path / "a")
    np.testing.assert_array_equal(read_dicom(tmp_path / "a").array[0], ACTIVITY)
    write_pet(tmp_path / "b", Units="GML")
    np.testing.assert_array_equal(read(tmp_path / "b"), ACTIVITY)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PatientWeight": None}, "needs PatientWeight"),
        ({"Units": "CNTS"}, "the units are CNTS"),
        ({"DecayCorrection": "NONE"}, "needs DecayCorrection START or ADMIN"),
        ({"RadiopharmaceuticalInformationSequence": dose(RadionuclideTotalDose=None)}, "needs RadionuclideTotalDose"),
        ({"RadiopharmaceuticalInformationSequence": []}, "needs RadionuclideTotalDose"),
        ({"RadiopharmaceuticalInformationSequence": dose(RadiopharmaceuticalStartTime=None)}, "dates and times"),
        ({"SeriesTime": "110000"}, "made after it was acquired"),
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "SUV is for PET"),
    ],
)
def test_missing_tags_are_named(tmp_path: Path, changes: dict, reason: str) -> None:
    write_pet(tmp_path, **changes)
    with pytest.raises(UserError, match=reason) as caught:
        read(tmp_path)
    assert "slice000.dcm" in str(caught.value)
