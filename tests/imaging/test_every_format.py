"""Every reader and writer round trip, and every file of the collection of bad inputs."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from stunet.errors import UserError
from stunet.imaging.formats.registry import READERS, WRITERS, read_labels, read_volume, write_labels
from stunet.imaging.preprocess import preprocess
from stunet.imaging.volume import Volume
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from tests.conftest import REPOSITORY
from tests.phantoms import rotated_affine, smooth_scan, write_dicom_series

BAD_INPUTS = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared")) / "data" / "bad_inputs"
MANIFEST = json.loads((BAD_INPUTS / "manifest.json").read_text()) if BAD_INPUTS.is_dir() else []
GENERATED = {"gzip_bomb_8GB_zeros.nii.gz"}
"""Not stored; `test_nifti` makes such a bomb."""

SCANS_ALL_THE_SAME = {"int16_label_values_200.nii.gz"}
"""Malformed for their purpose, but valid images."""

EXPECTED_SHIFT = {"float64.nii.gz": 0.25}
PLAN = PreprocessingPlan("nnunet_v1", (3.0, 3.0, 3.0), (32, 32, 32), (ChannelNormalization("zscore"),))


def reference() -> np.ndarray:
    return np.asanyarray(nibabel.load(BAD_INPUTS / "reference_64x64x30.nii.gz").dataobj).transpose(2, 1, 0)


def expected_values(name: str) -> np.ndarray:
    if name.startswith("constant"):
        return np.full((30, 64, 64), -1000)
    if name.startswith("uint16"):
        return np.maximum(reference(), -1024)
    return reference() + EXPECTED_SHIFT.get(name, 0)


@pytest.mark.parametrize("entry", [e for e in MANIFEST if e["file"] not in GENERATED], ids=lambda entry: entry["file"])
def test_every_bad_input_is_refused_by_name_or_read_right(
    entry: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = BAD_INPUTS / entry["file"]
    if entry["wellformed"] or entry["file"] in SCANS_ALL_THE_SAME:
        image, _ = preprocess(read_volume(path), PLAN)
        assert torch.isfinite(image).all()
    else:
        with pytest.raises(UserError) as caught:
            preprocess(read_volume(path), PLAN)
        sentence = str(caught.value)
        assert entry["file"] in sentence
        assert "\n" not in sentence
        print(sentence.replace(str(BAD_INPUTS.parent) + "/", ""))
    assert not list(tmp_path.iterdir()), "something was executed or written"


@pytest.mark.parametrize(
    "name",
    [e["file"] for e in MANIFEST if e["wellformed"] and e["kind"] not in ("orientation", "dicom")],
)
def test_wellformed_oddities_have_the_values_they_should(name: str) -> None:
    np.testing.assert_array_equal(read_volume(BAD_INPUTS / name).array[0], expected_values(name))


@pytest.mark.parametrize("axcodes", ["LAS", "LPS", "PSR"])
def test_orientations_hold_the_same_voxels_in_the_world(shared_data: Path, axcodes: str) -> None:
    straight = nibabel.load(shared_data / "totalseg_example/ct_crop.nii.gz")
    stored = nibabel.as_closest_canonical(nibabel.load(shared_data / f"bad_inputs/orient_{axcodes}.nii.gz"))
    volume = read_volume(shared_data / f"bad_inputs/orient_{axcodes}.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), np.asanyarray(straight.dataobj))
    ras = PreprocessingPlan("nnunet_v1", (3.0,) * 3, (32,) * 3, (ChannelNormalization("none"),), orientation="RAS")
    image, record = preprocess(volume, ras)
    np.testing.assert_array_equal(image[0], np.asanyarray(straight.dataobj).transpose(2, 1, 0))
    assert record.scan_shape == volume.shape


@pytest.mark.parametrize("suffix", sorted(WRITERS))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_come_back_as_written(tmp_path: Path, suffix: str, dtype: type) -> None:
    assert suffix in READERS
    labels = (np.abs(smooth_scan((4, 5, 6))) % (np.iinfo(dtype).max // 2)).astype(dtype)
    like = Volume(smooth_scan((4, 5, 6))[None], rotated_affine((0.7, 0.9, 2.5)))
    write_labels(labels, like, tmp_path / f"labels{suffix}")
    again = read_labels(tmp_path / f"labels{suffix}")
    np.testing.assert_array_equal(again.array[0], labels)
    np.testing.assert_allclose(again.affine, like.affine, atol=1e-4)


def test_labels_of_a_dicom_series_lie_on_its_grid(tmp_path: Path) -> None:
    array = smooth_scan((4, 5, 6))
    write_dicom_series(tmp_path / "series", array)
    scan = read_volume(tmp_path / "series")
    write_labels((array > 0).astype(np.uint8), scan, tmp_path / "labels.nii.gz")
    again = read_labels(tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(again.affine, scan.affine, atol=1e-5)
    np.testing.assert_array_equal(again.array, scan.array > 0)


def test_a_sequence_is_read_as_channels(shared_data: Path) -> None:
    path = shared_data / "totalseg_example/ct_crop.nii.gz"
    both = read_volume([path, str(path)])
    assert both.array.shape == (2, 30, 101, 122)
    with pytest.raises(UserError, match="voxels"):
        read_volume([path, shared_data / "totalseg_example/ct.nii.gz"])


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32, np.float64])
def test_labels_of_any_type_are_read_as_integers(tmp_path: Path, dtype: type) -> None:
    labels = (np.abs(smooth_scan((4, 5, 6))) % 105).astype(dtype)
    nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), np.eye(4), dtype=dtype), tmp_path / "labels.nii.gz")
    volume = read_labels(tmp_path / "labels.nii.gz")
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array[0], labels)


@pytest.mark.parametrize(
    ("value", "reason"), [(0.5, "fractions"), (-1, "from -1 to 0"), (70000, "70000"), (np.nan, "nan")]
)
def test_what_is_no_label_map_is_refused(tmp_path: Path, value: float, reason: str) -> None:
    labels = np.zeros((4, 4, 4), np.float32)
    labels[1, 2, 3] = value
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "labels.nii.gz")
    with pytest.raises(UserError, match=reason):
        read_labels(tmp_path / "labels.nii.gz")


@pytest.mark.parametrize("name", ["scan.zip", "scan.dcm", "scan.mha", "scan", "scan.nii.gz.part"])
def test_unknown_kinds_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UserError, match=r"cannot be read .known: \.nii, \.nii\.gz.; for DICOM give the folder"):
        read_volume(tmp_path / name)
    with pytest.raises(UserError, match="cannot be written"):
        write_labels(np.zeros((1, 1, 1), np.uint8), Volume(np.zeros((1, 1, 1, 1)), np.eye(4)), tmp_path / name)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.nii\.gz: no such file"):
        read_volume(tmp_path / "none.nii.gz")
