"""Every folder of real and synthetic oddities: read or refused, as the README beside it says is right."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stunet.errors import UserError
from stunet.imaging.formats.dicom.choose import choose, named
from stunet.imaging.formats.dicom.found import find_series
from stunet.imaging.formats.dicom.series import Reading

BALL = (6, 48, 40)
"""Most synthetic cases are this CT, of -909 to 68 HU."""


@dataclass(frozen=True)
class Read:
    """What is right for a folder that is read: shape, slices as they are or resampled, and what is said."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] = (2.0, 0.5, 0.75)
    values: tuple[float, float] = (-909, 68)
    said: str = ""
    resampled: bool = False


RIGHT: dict[str, Read | str] = {
    "dicom_wild/ct_with_enhanced_sr": Read(BALL, said="passed over 1 x Enhanced SR Storage"),
    "dicom_wild/ct_with_rtdose": Read(BALL, said="passed over 1 x RT Dose Storage"),
    "dicom_wild/empty_end_files": r"slice000\.dcm: is empty \(0 bytes\)",
    "dicom_wild/enhanced_ct_real_ge": Read((3, 38, 23), (2.5, 0.7, 0.7), (0, 1)),
    "dicom_wild/enhanced_mr_real_siemens_xa30": Read((12, 64, 64), (7.5, 4, 4), (-4096, 4094.98291015625)),
    "dicom_wild/files_copied_twice": Read(BALL),
    "dicom_wild/gantry_tilt": Read((6, 55, 40), said="tilted by 18.5 degrees", resampled=True),
    "dicom_wild/gantry_tilt_real_siemens": Read(
        (4, 521, 512), (4.8515, 0.41797, 0.41797), (-1024, -770), "tilted by 14.0 degrees", resampled=True
    ),
    "dicom_wild/gzipped_files": Read(BALL),
    "dicom_wild/labels_in_dicom_folder": Read((24, 48, 40)),
    "dicom_wild/monochrome1": Read(BALL),
    "dicom_wild/nested_export": Read(BALL, said="passed over 1 x file that is not DICOM"),
    "dicom_wild/palette_colour": r"holds no DICOM slices \(3 x colour image\)",
    "dicom_wild/thin_and_thick_in_one_folder": r"2 series(.|\n)*1 +CT +1\.0 B30f +12 (.|\n)*2 +CT +5\.0 B60f +6 ",
    "dicom_wild/three_time_points": r"3 series(.|\n)*time point 1(.|\n)*time point 2(.|\n)*time point 3",
    "dicom_wild/two_mosaics": r"slice000\.dcm: is a MOSAIC",
    "dicom_wild/variable_spacing": Read((8, 48, 40), (4, 0.5, 0.75), said="gaps of 4.00 to 7.00 mm", resampled=True),
    "dicom_wild/without_preamble": Read(BALL),
    "dicom_wild/zipped": Read(BALL),
    "dicom_samples/ct_gantry_tilt_4slices": Read(
        (4, 521, 512), (4.8515, 0.41797, 0.41797), (-1024, -770), "tilted by 14.0 degrees", resampled=True
    ),
    "dicom_samples/ct_gap_5_10mm_4slices": Read(
        (5, 512, 512), (5, 0.42969, 0.42969), (-1024, -770), "gaps of 5.00 to 10.00 mm", resampled=True
    ),
    "dicom_samples/enhanced_ct_multiframe": Read((2, 512, 512), (10, 0.38867, 0.38867), (-1024, 172)),
    "dicom_samples/mixed_modalities_ct_mr_pet_rtstruct": Read(
        (47, 134, 136), (3.27, 0.976562, 0.976562), (-1000, 1478), "took series 2"
    ),
    "dicom_samples/philips_phantom_tilt_multiseries": Read(
        (7, 522, 512), (2.3708, 0.48242, 0.48242), (-1024, 778), "tilted by 18.5 degrees", resampled=True
    ),
    "dicom_samples/single_slice_transfer_syntaxes": r"holds a single slice \(BigEndianExplicit\.dcm\)",
}
"""For a CT model: what is read, or a pattern of the sentence with which the folder is refused."""


@pytest.mark.parametrize("folder", RIGHT)
def test_it_is_read_or_refused_as_is_right(shared_data: Path, folder: str) -> None:
    right, path = RIGHT[folder], shared_data / folder
    if isinstance(right, str):
        with pytest.raises(UserError, match=right) as caught:
            choose(find_series(path), lambda: "CT").read()
        assert str(path) in str(caught.value)
        return
    volume = choose(find_series(path), lambda: "CT").read()
    assert volume.shape == right.shape
    np.testing.assert_allclose(volume.spacing, right.spacing, rtol=1e-4)
    assert (volume.array.min(), volume.array.max()) == right.values
    assert right.said in " ".join(volume.warnings)
    assert volume.slices is not None and volume.slices.stack.is_regular != right.resampled


def test_every_folder_has_a_row(shared_data: Path) -> None:
    folders = {
        f"{root}/{folder.name}"
        for root in ("dicom_wild", "dicom_samples")
        for folder in (shared_data / root).iterdir()
        if folder.is_dir()
    }
    assert folders == set(RIGHT)


@pytest.mark.parametrize("folder", [folder for folder, right in RIGHT.items() if getattr(right, "resampled", False)])
def test_strict_geometry_refuses_what_would_be_resampled(shared_data: Path, folder: str) -> None:
    with pytest.raises(UserError, match=r"unevenly spaced|gantry was tilted"):
        choose(find_series(shared_data / folder, Reading(strict_geometry=True))).read()


@pytest.mark.parametrize(("number", "slices", "spacing"), [("1", 12, 1.0), ("2", 6, 2.0)])
def test_thin_and_thick_are_chosen_by_number(shared_data: Path, number: str, slices: int, spacing: float) -> None:
    found = find_series(shared_data / "dicom_wild/thin_and_thick_in_one_folder")
    (series,) = named(found, number)
    volume = series.read()
    assert (volume.shape[0], volume.spacing[0]) == (slices, spacing)
    assert named(found, series.uid) == [series]


def test_phases_are_chosen_by_number_and_not_by_the_uid_they_share(shared_data: Path) -> None:
    found = find_series(shared_data / "dicom_wild/three_time_points")
    assert [series.part for series in named(found, "all")] == ["time point 1", "time point 2", "time point 3"]
    for number, series in enumerate(named(found, "all")):
        assert {one.source.name[:3] for one in series.stack.slices} == {f"t{number}_"}
    with pytest.raises(UserError, match="3 series that could be meant"):
        named(found, found.series[0].uid)
