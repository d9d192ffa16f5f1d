"""Every reader and writer round trip, and every file of the collection of bad inputs."""

import gzip
import json
import os
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

from stunet.errors import UserError
from stunet.imaging.affine import orientation
from stunet.imaging.formats.registry import (
    READERS,
    WRITERS,
    has_suffix,
    read_labels,
    read_volume,
    without_suffix,
    write_labels,
)
from stunet.imaging.preprocess import preprocess
from stunet.imaging.volume import Volume, reorient
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from tests.conftest import REPOSITORY
from tests.imaging.test_nifti import itk_affine
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
        assert "\n" not in sentence or "choose with --series" in sentence  # a table follows
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
    labels = (np.abs(smooth_scan((4, 5, 6))) % (np.iinfo(dtype).max // 2)).astype(dtype)
    like = Volume(smooth_scan((4, 5, 6))[None], rotated_affine((0.7, 0.9, 2.5)))
    write_labels(labels, like, tmp_path / f"labels{suffix}")
    again = read_labels(tmp_path / f"labels{suffix}")
    np.testing.assert_array_equal(again.array[0], labels)
    np.testing.assert_allclose(again.affine, like.affine, atol=1e-4)
    image = SimpleITK.ReadImage(str(tmp_path / f"labels{suffix}"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), labels)
    np.testing.assert_allclose(itk_affine(image), like.affine, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == [f"labels{suffix}"]


ORIENTATIONS = ["RAS", "LPS", "LAS", "RPI", "SAR", "PIR", "ASL", "IRP"]


def save_as(suffix: str, array_xyz: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write an image with nibabel or SimpleITK, not with our code."""
    if suffix in (".nrrd", ".nhdr", ".mha", ".mhd"):
        image = SimpleITK.GetImageFromArray(array_xyz.T)
        lps = np.diag([-1, -1, 1, 1]) @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    else:
        kind = {".mgz": nibabel.MGHImage, ".mgh": nibabel.MGHImage, ".hdr": nibabel.Nifti1Pair}
        nibabel.save(kind.get(suffix, nibabel.Nifti1Image)(array_xyz, affine), path)


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [s for s in READERS if not s.startswith((".img", ".hdr.gz"))])
def test_one_phantom_in_every_format_and_orientation(tmp_path: Path, suffix: str, axcodes: str) -> None:
    """Values in the world, against the phantom; affine and spacing, against nibabel or SimpleITK."""
    straight = nibabel.Nifti1Image(smooth_scan((7, 6, 5)).T, rotated_affine((0.7, 0.9, 2.5)))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(straight.affine), nibabel.orientations.axcodes2ornt(axcodes)
    )
    stored = straight.as_reoriented(turn)
    path = tmp_path / f"scan{suffix}"
    save_as(suffix, np.asanyarray(stored.dataobj), stored.affine, path)
    volume = read_volume(path)
    assert volume.warnings == ()
    assert orientation(volume.affine) == axcodes
    np.testing.assert_array_equal(volume.array[0], np.asanyarray(stored.dataobj).T)
    np.testing.assert_allclose(volume.affine, stored.affine, atol=1e-4)
    back, _ = reorient(volume, "RAS")
    np.testing.assert_array_equal(back.array[0], smooth_scan((7, 6, 5)))
    np.testing.assert_allclose(back.affine, straight.affine, atol=1e-4)
    for output in WRITERS:
        write_labels((back.array[0] > 0).astype(np.uint8), back, tmp_path / f"labels{output}")
        labels, _ = reorient(read_labels(tmp_path / f"labels{output}"), "RAS")
        np.testing.assert_array_equal(labels.array[0], smooth_scan((7, 6, 5)) > 0)
        np.testing.assert_allclose(labels.affine, straight.affine, atol=1e-4)


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_capitals_in_a_suffix_do_not_matter(tmp_path: Path, suffix: str) -> None:
    pair = {".img": ".hdr", ".img.gz": ".hdr.gz"}.get(suffix, suffix)
    array = smooth_scan((4, 5, 6))
    save_as(
        pair.removesuffix(".gz") if "hdr" in pair else pair, array.T, np.diag([-1.0, -1, 2, 1]), tmp_path / f"x{pair}"
    )
    if suffix in (".mhd", ".nhdr"):  # the header names its other half
        (tmp_path / f"x{suffix}").rename(tmp_path / f"X{suffix.upper()}")
    else:
        for file in list(tmp_path.iterdir()):
            file.rename(tmp_path / file.name.upper())
    path = tmp_path / f"X{suffix.upper()}"
    assert without_suffix(path) == "X" and has_suffix(path, READERS)
    np.testing.assert_array_equal(read_volume(path).array[0], array)


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_capitals_in_the_suffix_of_an_output_do_not_matter(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"X{suffix.upper()}"
    labels = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
    write_labels(labels, Volume(np.zeros((1, 4, 5, 6)), np.eye(4)), path, {1: "liver"})
    np.testing.assert_array_equal(read_labels(path).array[0], labels)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == (suffix == ".nii.gz")


@pytest.mark.parametrize("suffix", [s for s in READERS if not s.startswith((".img", ".hdr.gz"))])
def test_any_damage_is_a_sentence_or_a_volume(tmp_path: Path, suffix: str) -> None:
    save_as(suffix, smooth_scan((7, 6, 5)).T, rotated_affine((0.7, 0.9, 2.5)), tmp_path / f"scan{suffix}")
    path, random = tmp_path / f"scan{suffix}", np.random.default_rng(0)
    whole, refused = path.read_bytes(), 0
    cuts = [whole[:kept] for kept in (0, 1, 2, 40, len(whole) // 2, len(whole) - 9)]
    for _ in range(120):
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(0, min(len(whole), 400), random.integers(1, 4))] = random.integers(0, 256)
        cuts.append(content.tobytes())
    for content in cuts:
        path.write_bytes(content)
        try:
            volume = read_volume(path)
        except UserError as error:
            refused += 1
            assert "scan" in str(error) and "\n" not in str(error)
        else:
            assert np.isfinite(volume.affine).all()
    assert refused > 10


@pytest.mark.parametrize("name", ["vector.nrrd", "vector.mha", "4d.nrrd", "4d.mha", "2d.mha", "complex.mha", "4d.mgz"])
def test_what_is_not_one_grey_image_is_refused(tmp_path: Path, name: str) -> None:
    kind, path = name.partition(".")[0], tmp_path / name
    if name == "4d.mgz":
        nibabel.save(nibabel.MGHImage(np.zeros((3, 4, 5, 2), np.float32), np.eye(4)), path)
    else:
        images = {
            "vector": lambda: SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True),
            "4d": lambda: SimpleITK.GetImageFromArray(np.zeros((2, 3, 4, 5), np.uint8), isVector=False),
            "2d": lambda: SimpleITK.GetImageFromArray(np.zeros((4, 5), np.uint8)),
            "complex": lambda: SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.complex64)),
        }
        SimpleITK.WriteImage(images[kind](), str(path))
    with pytest.raises(UserError, match=re.escape(str(path))) as caught:
        read_volume(path)
    print(caught.value)


def test_a_header_that_claims_too_much_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    for suffix, before, after in ((".nrrd", "sizes: 5 6 7", "sizes: 900 900 900"), (".mha", "5 6 7", "900 900 900")):
        path = tmp_path / f"scan{suffix}"
        save_as(suffix, smooth_scan((7, 6, 5)).T, np.eye(4), path)
        path.write_bytes(path.read_bytes().replace(before.encode(), after.encode(), 1))
        with pytest.raises(UserError, match="cannot hold"):
            read_volume(path)
        path.write_bytes(path.read_bytes().replace(b"900 900 900", b"90000 90000 90000", 1))
        with pytest.raises(UserError, match="90000x90000x90000"):
            read_volume(path)


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd", ".hdr"])
def test_a_header_without_its_voxels_says_so(tmp_path: Path, suffix: str) -> None:
    save_as(suffix, smooth_scan((4, 5, 6)).T, np.eye(4), tmp_path / f"scan{suffix}")
    for other in tmp_path.iterdir():
        if other.suffix != suffix:
            other.unlink()
    with pytest.raises(UserError, match=r"scan\.\w+: its (voxels are in|other half).* missing"):
        read_volume(tmp_path / f"scan{suffix}")


def test_files_without_orientation_are_a_guess_and_said_so(tmp_path: Path) -> None:
    array = smooth_scan((4, 5, 6))
    nibabel.save(nibabel.AnalyzeImage(array.T, np.diag([-0.7, 0.9, 2.5, 1])), tmp_path / "scan.hdr")
    save_as(".mha", array.T, np.diag([-1.0, -1, 2, 1]), tmp_path / "scan.mha")
    save_as(".nrrd", array.T, np.diag([-1.0, -1, 2, 1]), tmp_path / "scan.nrrd")
    content = (tmp_path / "scan.mha").read_bytes()
    (tmp_path / "scan.mha").write_bytes(re.sub(rb"TransformMatrix = .*\n", b"", content))
    content = (tmp_path / "scan.nrrd").read_bytes()
    content = re.sub(rb"space origin: .*\n", b"", content).replace(b"space: left-posterior-superior\n", b"")
    (tmp_path / "scan.nrrd").write_bytes(re.sub(rb"space directions: .*\n", b"spacings: 1 1 2\n", content))
    nibabel.save(nibabel.MGHImage(array.T.astype(np.int32), None), tmp_path / "scan.mgz")
    content = bytearray(gzip.decompress((tmp_path / "scan.mgz").read_bytes()))
    content[28:30] = bytes(2)
    (tmp_path / "scan.mgz").write_bytes(gzip.compress(bytes(content)))
    for name in ("scan.hdr", "scan.img", "scan.mha", "scan.nrrd", "scan.mgz"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.array[0], array)
        (warning,) = volume.warnings
        assert "does not say how the scan is oriented" in warning and f"read as {orientation(volume.affine)}" in warning
    analyze = nibabel.load(tmp_path / "scan.hdr")
    assert orientation(analyze.affine) == orientation(read_volume(tmp_path / "scan.hdr").affine) == "LAS"
    np.testing.assert_allclose(read_volume(tmp_path / "scan.hdr").spacing, analyze.header.get_zooms()[::-1], rtol=1e-6)


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("kind", [nibabel.AnalyzeImage, nibabel.Spm99AnalyzeImage, nibabel.Nifti1Pair])
def test_pairs_are_nibabels(tmp_path: Path, kind: type, endianness: str) -> None:
    """Values, SPM's scale factor among them, spacing and orientation; NIfTI pairs also in place."""
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(np.int16)
    image = kind(
        smooth_scan((4, 5, 6)).T * (1 if kind is nibabel.AnalyzeImage else 0.37), np.diag([-0.7, 0.9, 2, 1]), header
    )
    image.to_filename(tmp_path / "scan.hdr")
    expected = nibabel.load(tmp_path / "scan.hdr")
    for name in ("scan.hdr", "scan.img"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_allclose(volume.array[0], expected.get_fdata().T, rtol=1e-6, atol=1e-3)
        np.testing.assert_allclose(volume.affine[:3, :3], expected.affine[:3, :3], rtol=1e-6)
        if kind is nibabel.Nifti1Pair:
            np.testing.assert_allclose(volume.affine, expected.affine, rtol=1e-6)
    write_labels(np.ones((4, 5, 6), np.uint8), volume, tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(nibabel.load(tmp_path / "labels.nii.gz").affine, volume.affine, rtol=1e-6)


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
@pytest.mark.parametrize("place", [b"caf\xe9/scan%s", b"caf\xe9%s", b"caf\xe9/\xff%s"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".mgz", ".seg.nrrd"])
def test_names_that_are_not_utf8_are_read_and_written(tmp_path: Path, suffix: str, place: bytes) -> None:
    """SimpleITK ends the process when it is given such a name."""
    path = tmp_path / os.fsdecode(place.replace(b"%s", suffix.encode()))
    path.parent.mkdir(exist_ok=True)
    labels = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
    if suffix in WRITERS:
        write_labels(labels, Volume(np.zeros((1, 4, 5, 6)), np.eye(4)), path)
    else:
        save_as(suffix, labels.T, np.eye(4), path)
    np.testing.assert_array_equal(read_labels(path).array[0], labels)
    assert list(path.parent.iterdir()) == [path]


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


@pytest.mark.parametrize(("slope", "inter"), [(1.0000001, 0.0), (0.9999999, 0.0), (1.0, 1e-7)])
def test_labels_within_rounding_are_whole(tmp_path: Path, slope: float, inter: float) -> None:
    labels = (np.arange(4096) * 16).reshape(16, 16, 16).astype(np.uint16)
    image = nibabel.Nifti1Image(labels.T, np.eye(4))
    image.header.set_slope_inter(slope, inter)
    image.header["scl_slope"] = slope
    nibabel.save(image, tmp_path / "labels.nii")
    content = bytearray((tmp_path / "labels.nii").read_bytes())
    content[112:120] = np.array([slope, inter], "<f4").tobytes()
    content[352:] = labels.astype("<u2").tobytes()
    (tmp_path / "labels.nii").write_bytes(content)
    volume = read_labels(tmp_path / "labels.nii")
    assert volume.array.dtype == np.uint16
    np.testing.assert_array_equal(volume.array[0], labels)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(0.5, "fractions"), (1.001, "fractions"), (-1, "from -1 to 0"), (70000, "70000"), (np.nan, "nan")],
)
def test_what_is_no_label_map_is_refused(tmp_path: Path, value: float, reason: str) -> None:
    labels = np.zeros((4, 4, 4), np.float32)
    labels[1, 2, 3] = value
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "labels.nii.gz")
    with pytest.raises(UserError, match=reason):
        read_labels(tmp_path / "labels.nii.gz")


@pytest.mark.parametrize("name", ["scan.zip", "scan.dcm", "scan.raw", "scan", "scan.nii.gz.part"])
def test_unknown_kinds_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UserError, match=r"cannot be read .known: \.nii, \.nii\.gz, .*; for DICOM give the folder"):
        read_volume(tmp_path / name)
    with pytest.raises(UserError, match="cannot be written"):
        write_labels(np.zeros((1, 1, 1), np.uint8), Volume(np.zeros((1, 1, 1, 1)), np.eye(4)), tmp_path / name)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.nii\.gz: no such file"):
        read_volume(tmp_path / "none.nii.gz")


@pytest.mark.parametrize("number", ["127", "11", "0", "-1", "4294967295", "3.0", "three", ""])
@pytest.mark.parametrize("before", ["", "Comment = x\n\n"], ids=["first line", "behind a blank line"])
def test_a_number_of_dimensions_that_would_crash_itk_is_refused(tmp_path: Path, number: str, before: str) -> None:
    path = tmp_path / "scan.mha"
    save_as(".mha", smooth_scan((7, 6, 5)).T, np.eye(4), path)
    path.write_bytes(before.encode() + path.read_bytes().replace(b"NDims = 3", f"NDims = {number}".encode(), 1))
    with pytest.raises(UserError, match=r"scan\.mha: the header's number of dimensions is not one"):
        read_volume(path)
