"""Frames are encoded as pydicom does it, only faster."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest

from stunet.imaging.formats import dicom_seg, dicom_source
from tests.imaging.dicom.marked_series import segmented, write_phantom
from tests.imaging.dicom.samples import write_enhanced


def write_slices(folder: Path) -> None:
    write_phantom(folder, "oblique")


def write_frames_of_one_file(folder: Path) -> None:
    frames: list[dict[str, object]] = [{"position": [-5, -6, 2 * z]} for z in range(4)]
    labels = np.random.default_rng(0).integers(0, 5, (4, 12, 10)).astype(np.int16)
    write_enhanced(folder / "mf.dcm", labels, frames, FrameOfReferenceUID="1.7")


@pytest.mark.parametrize("write", [write_slices, write_frames_of_one_file])
@pytest.mark.parametrize("kind", ["labelmap", "binary"])
def test_the_file_is_the_one_that_pydicom_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, write: object
) -> None:
    write(tmp_path / "in")  # type: ignore[operator]

    def save_both_ways(dataset: pydicom.Dataset, path: Path) -> None:
        deepcopy(dataset).save_as(tmp_path / "by_pydicom.dcm", enforce_file_format=True)
        dicom_source.save_undecoded(dataset, path)

    monkeypatch.setattr(dicom_seg, "save_undecoded", save_both_ways)
    segmented(tmp_path / "in").save_dicom_seg(tmp_path / "ours.dcm", kind)  # type: ignore[arg-type]
    assert len(pydicom.dcmread(tmp_path / "ours.dcm").PerFrameFunctionalGroupsSequence) >= 4
    assert (tmp_path / "ours.dcm").read_bytes() == (tmp_path / "by_pydicom.dcm").read_bytes()
