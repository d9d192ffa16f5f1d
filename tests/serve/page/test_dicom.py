"""A zip of DICOM with two series, in Chromium."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from stunet.imaging.formats.registry import read_labels
from stunet.inference.predictor import Predictor
from tests.phantoms import smooth_scan, write_dicom_series
from tests.serve.page.visitor import Visitor

pytestmark = pytest.mark.browser

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two series; the description of one looks like markup."""
    scan = smooth_scan((12, 40, 48))
    space = {"FrameOfReferenceUID": "1.2.3.10"}
    write_dicom_series(tmp_path / "study" / "thin", scan, SeriesDescription=MARKUP, SeriesNumber=1, **space)
    changes = {"SeriesInstanceUID": "1.2.3.9", "SeriesNumber": 2, **space}
    for path in write_dicom_series(tmp_path / "study" / "other", scan // 2, **changes):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID += ".9"
        dataset.save_as(path)
    return tmp_path / "study"


def test_a_series_of_a_zip_is_chosen_and_saved_as_segmentation(
    visitor: Visitor, study: Path, models: dict[str, Path], tmp_path: Path
):
    visitor.drop(Path(shutil.make_archive(str(tmp_path / "study"), "zip", study)))
    visitor.choose_model("tissues")
    rows = visitor.page.locator("#series-rows tr")
    assert rows.count() == 2
    assert rows.filter(has_text=MARKUP).count() == 1, "a description is text, not markup"
    rows.filter(has_text=MARKUP).get_by_role("radio").check()
    visitor.segment()

    expected = Predictor(str(models["tissues"])).predict(study / "thin")
    saved = pydicom.dcmread(visitor.save("dicom-seg", tmp_path))
    assert saved.Modality == "SEG"
    assert {one.SegmentLabel for one in saved.SegmentSequence} >= {"fat", "soft_tissue", "bone"}
    assert saved.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.5"
    frames = np.stack([expected.labels[z] for z in slices_of(saved, study / "thin")])
    assert np.array_equal(saved.pixel_array, frames)
    assert read_labels(visitor.save("nifti", tmp_path)).array.shape[1:] == expected.labels.shape


def slices_of(segmentation: pydicom.Dataset, folder: Path) -> list[int]:
    """The index, from the feet on, of the slice to which each frame refers."""
    names = [str(pydicom.dcmread(path).SOPInstanceUID) for path in sorted(folder.glob("*.dcm"))]
    frames = segmentation.PerFrameFunctionalGroupsSequence
    referred = [frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID for frame in frames]
    return [names.index(str(uid)) for uid in referred]


def test_a_folder_can_be_dropped(visitor: Visitor, study: Path):
    visitor.drop(study / "thin")
    visitor.page.locator("#setup").wait_for()
    assert visitor.page.locator("#series-rows tr").count() == 1
    assert visitor.page.locator("#series-rows input").is_checked()
