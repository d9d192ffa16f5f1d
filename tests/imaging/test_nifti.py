"""NIfTI in: against SimpleITK and nibabel, and hostile headers."""

import gzip
import struct
import time
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from stunet.errors import UserError
from stunet.imaging.affine import orientation
from stunet.imaging.formats.nifti import read_nifti
from stunet.imaging.formats.nifti_stream import READ_BYTES
from stunet.imaging.formats.nifti_write import write_nifti_labels
from tests.phantoms import itk_affine, rotated_affine, smooth_scan


def save(path: Path, array_ZYX: np.ndarray, affine: np.ndarray | None = None, kind: type = nibabel.Nifti1Image) -> Path:
    """Write with nibabel, as other programs do."""
    nibabel.save(
        kind(array_ZYX.transpose(2, 1, 0), rotated_affine((0.7, 0.9, 2.5)) if affine is None else affine), path
    )
    return path


def edit(path: Path, offset: int, form: str, *values: float) -> Path:
    """Overwrite bytes of a plain .nii file."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, *values)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_values_spacing_and_affine_are_simpleitks(tmp_path: Path, dtype: str, suffix: str) -> None:
    array = (np.abs(smooth_scan((7, 6, 5))) % 100).astype(dtype)
    path = save(tmp_path / f"scan{suffix}", array)
    volume, image = read_nifti(path), SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array[0], SimpleITK.GetArrayFromImage(image))
    assert volume.array.dtype == (np.float32 if dtype == "float64" else dtype)
    np.testing.assert_allclose(volume.spacing, image.GetSpacing()[::-1], rtol=1e-7)
    np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-4)


def test_real_scans_are_simpleitks(shared_data: Path) -> None:
    for name in ("totalseg_example/ct.nii.gz", "totalseg_example/mr.nii.gz", "ct_samples/thorax_cta_crop_ct.nii.gz"):
        volume, image = read_nifti(shared_data / name), SimpleITK.ReadImage(str(shared_data / name))
        np.testing.assert_array_equal(volume.array[0], SimpleITK.GetArrayFromImage(image))
        np.testing.assert_allclose(volume.spacing, image.GetSpacing()[::-1], rtol=1e-7)
        np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-3)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_both_versions_are_read_and_repeated(tmp_path: Path, kind: type) -> None:
    array = smooth_scan((4, 5, 6))
    volume = read_nifti(save(tmp_path / "scan.nii", array, kind=kind))
    np.testing.assert_array_equal(volume.array[0], array)
    write_nifti_labels(np.abs(array % 7).astype(np.uint8), volume, tmp_path / "labels.nii.gz")
    labels = nibabel.load(tmp_path / "labels.nii.gz")
    assert type(labels) is kind
    np.testing.assert_array_equal(labels.affine, nibabel.load(tmp_path / "scan.nii").affine)


def test_big_endian_files_are_read_and_repeated(tmp_path: Path) -> None:
    array = smooth_scan((4, 5, 6))
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([2, 3, 4, 1]), header)
    image.to_filename(tmp_path / "scan.nii")
    assert (tmp_path / "scan.nii").read_bytes()[:4] == struct.pack(">i", 348)
    volume = read_nifti(tmp_path / "scan.nii")
    np.testing.assert_array_equal(volume.array[0], array)
    labels = np.arange(120, dtype=np.uint16).reshape(4, 5, 6) * 500
    write_nifti_labels(labels, volume, tmp_path / "labels.nii")
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "labels.nii"))), labels
    )


@pytest.mark.parametrize(
    ("slope", "inter", "expected"),
    [(2.0, -7.5, (2.0, -7.5)), (np.nan, 5.0, (1, 0)), (0.0, 5.0, (1, 0)), (np.inf, 0.0, (1, 0)), (3.0, np.nan, (3, 0))],
)
def test_values_are_rescaled(tmp_path: Path, slope: float, inter: float, expected: tuple[float, float]) -> None:
    array = smooth_scan((4, 5, 6))
    path = edit(save(tmp_path / "scan.nii", array), 112, "<2f", slope, inter)
    volume = read_nifti(path)
    np.testing.assert_allclose(volume.array[0], array * expected[0] + expected[1])
    assert volume.array.dtype == (np.int16 if expected == (1, 0) else np.float32)


@pytest.mark.parametrize(("unit", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (2 + 8, 1)])
def test_units_of_the_header_count(tmp_path: Path, unit: int, factor: float) -> None:
    affine = np.diag([1.5, 2.0, 4.0, 1.0]) / (factor, factor, factor, 1)
    path = edit(save(tmp_path / "scan.nii", smooth_scan((4, 5, 6)), affine), 123, "<b", unit)
    np.testing.assert_allclose(read_nifti(path).spacing, (4.0, 2.0, 1.5), rtol=1e-6)
    np.testing.assert_allclose(np.diag(read_nifti(path).affine)[:3], (1.5, 2.0, 4.0), rtol=1e-6)


@pytest.mark.parametrize(
    "dim", [(5, 6, 5, 4, 1, 1), (4, 6, 5, 4, 0, 0, 0, 0), (3, 6, 5, 4, 7), (7, 6, 5, 4, 0, 1, 0, 1)]
)
def test_a_fourth_axis_of_one_entry_or_none_is_dropped(tmp_path: Path, dim: tuple[int, ...]) -> None:
    array = smooth_scan((4, 5, 6))
    path = edit(save(tmp_path / "scan.nii", array), 40, f"<{len(dim)}h", *dim)
    np.testing.assert_array_equal(read_nifti(path).array[0], array)


@pytest.mark.parametrize(("axis", "value"), [(4, np.nan), (7, np.inf), (0, np.nan), (0, 0.0)])
def test_pixdim_may_be_odd_where_it_places_nothing(tmp_path: Path, axis: int, value: float) -> None:
    """Unused axes, and a first entry that is not 1 or -1."""
    array, affine = smooth_scan((4, 5, 6)), rotated_affine((0.7, 0.9, 2.5))
    volume = read_nifti(edit(save(tmp_path / "scan.nii", array, affine), 76 + 4 * axis, "<f", value))
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    np.testing.assert_allclose(volume.spacing, (2.5, 0.9, 0.7), rtol=1e-6)
    write_nifti_labels(np.ones((4, 5, 6), np.uint8), volume, tmp_path / "labels.nii")
    np.testing.assert_array_equal(read_nifti(tmp_path / "labels.nii").affine, volume.affine)
    image = SimpleITK.ReadImage(str(tmp_path / "labels.nii"))
    np.testing.assert_allclose(itk_affine(image), affine, atol=1e-4)


def test_a_scan_without_orientation_is_a_guess_and_said_so(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(smooth_scan((4, 5, 6)).T, None)
    image.header.set_zooms((0.7, 0.9, 2.5))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "scan.nii")
    volume = read_nifti(tmp_path / "scan.nii")
    np.testing.assert_allclose(volume.affine, nibabel.load(tmp_path / "scan.nii").affine, atol=1e-5)
    (warning,) = volume.warnings
    assert "scan.nii: the header does not say how the scan is oriented" in warning
    assert orientation(volume.affine) == "LAS" and "read as LAS" in warning
    assert orientation(itk_affine(SimpleITK.ReadImage(str(tmp_path / "scan.nii")))) == "LPS" and "read LPS" in warning


@pytest.mark.parametrize(
    ("qform", "said"),
    [
        (np.diag([-0.7, -0.9, 2.5, 1.0]), "with left and right and front and back exchanged (LPS instead of RAS)"),
        (np.diag([-0.7, 0.9, 2.5, 1.0]), "with left and right exchanged (LAS instead of RAS)"),
        (np.diag([0.7, 0.9, -2.5, 1.0]), "with top and bottom exchanged (RAI instead of RAS)"),
        (np.array([[0.7, 0, 0, 9], [0, 0.9, 0, 0], [0, 0, 2.5, 0], [0, 0, 0, 1]]), "show it turned or shifted."),
    ],
)
def test_two_places_that_differ_are_said(tmp_path: Path, qform: np.ndarray, said: str) -> None:
    """With these codes SimpleITK takes the qform, as the warning says."""
    qform = qform + np.array([[0, 0, 0, 30], [0, 0, 0, 40], [0] * 4, [0] * 4])
    image = nibabel.Nifti1Image(smooth_scan((4, 5, 6)).T, np.diag([0.7, 0.9, 2.5, 1.0]))
    image.set_sform(image.affine, 2)
    image.set_qform(qform, 1)
    nibabel.save(image, tmp_path / "scan.nii")
    volume = read_nifti(tmp_path / "scan.nii")
    np.testing.assert_allclose(volume.affine, np.diag([0.7, 0.9, 2.5, 1.0]), atol=1e-5)
    np.testing.assert_allclose(itk_affine(SimpleITK.ReadImage(str(tmp_path / "scan.nii"))), qform, atol=1e-5)
    (warning,) = volume.warnings
    assert str(tmp_path / "scan.nii") in warning and said in warning


@pytest.mark.parametrize("degrees", [0.0, 10.0, 179.9, 180.0])
def test_rounding_between_qform_and_sform_is_no_disagreement(tmp_path: Path, degrees: float) -> None:
    image = nibabel.Nifti1Image(np.zeros((512, 512, 300), np.uint8), rotated_affine((0.7, 0.9, 2.5), degrees))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    nibabel.save(image, tmp_path / "scan.nii")
    assert read_nifti(tmp_path / "scan.nii").warnings == ()


def test_data_after_the_last_voxel_is_reported(tmp_path: Path) -> None:
    array = smooth_scan((4, 5, 6))
    path = save(tmp_path / "scan.nii", array)
    assert read_nifti(path).warnings == ()
    path.write_bytes(path.read_bytes() + b"more")
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.array[0], array)
    assert volume.warnings == (f"{path}: data after the last voxel is ignored.",)


def test_a_wrong_checksum_is_damage(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", smooth_scan((4, 5, 6)))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_nifti(path)


@pytest.mark.parametrize(
    ("offset", "form", "values", "reason"),
    [
        (76 + 4, "<f", [9.0], "contradicts itself"),
        (76 + 4, "<f", [np.nan], "not finite"),
        (280, "<f", [np.inf], "not finite"),
        (108, "<f", [np.nan], "first voxel"),
        (108, "<f", [-400.0], "first voxel"),
        (108, "<f", [1e30], "cannot hold"),
        (70, "<h", [9999], "unknown"),
        (70, "<hh", [32, 64], "complex64"),
        (70, "<hh", [1, 1], "binary"),
        (72, "<h", [8], "with 8 bits"),
        (40, "<h", [9], "not a size"),
        (40, "<h", [-3], "not a size"),
        (344, "<4s", [b"ni1\0"], "magic"),
        (0, "<i", [5], "not a NIfTI image"),
    ],
)
def test_impossible_headers_are_refused(tmp_path: Path, offset: int, form: str, values: list, reason: str) -> None:
    path = edit(save(tmp_path / "scan.nii", smooth_scan((4, 5, 6))), offset, form, *values)
    with pytest.raises(UserError, match=reason) as caught:
        read_nifti(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kept", [1, 3, 100, 350, 500])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_cut_files_are_refused(tmp_path: Path, kept: int, suffix: str) -> None:
    path = save(tmp_path / f"scan{suffix}", np.random.default_rng(0).integers(0, 99, (9, 9, 9)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"scan\.nii"):
        read_nifti(path)


def bomb(path: Path, shape_xyz: tuple[int, int, int], megabytes: int) -> Path:
    """A small .nii.gz that expands to many megabytes of zeros: one gzip member, repeated."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape_xyz)
    header.set_sform(np.eye(4), 2)
    header["vox_offset"] = 352
    member = gzip.compress(bytes(1 << 20), 9)
    with path.open("wb") as file:
        file.write(gzip.compress(header.binaryblock + bytes(4)))
        for _ in range(megabytes):
            file.write(member)
    return path


def test_a_gzip_bomb_of_8_7_gb_is_refused_at_once(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.nii.gz", (2048, 2048, 1040), 8320)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(UserError, match="2048x2048x1040"):
        read_nifti(path)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"refused after {seconds:.3f} s with {peak / 2**20:.1f} MiB")
    assert seconds < 2
    assert peak < 50 * 2**20


def test_a_bomb_behind_an_honest_small_header_is_not_expanded(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.nii.gz", (16, 16, 16), 8320)
    tracemalloc.start()
    volume = read_nifti(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert volume.shape == (16, 16, 16)
    assert peak < 100 * 2**20
    assert "after the last voxel" in volume.warnings[-1]


def allocated_by_reading(path: Path) -> int:
    """Bytes at the peak."""
    tracemalloc.start()
    volume = read_nifti(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert int(volume.array.max()) == 7
    return peak


def test_a_scan_is_in_memory_once(tmp_path: Path) -> None:
    """16 MiB of int16 in a plain file, compressed, and in the other byte order."""
    array = np.full((128, 256, 256), 7, np.int16)
    plain = save(tmp_path / "scan.nii", array)
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(plain.read_bytes(), 1))
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nibabel.Nifti1Image(array.transpose(2, 1, 0), np.eye(4), header).to_filename(tmp_path / "other.nii")
    assert allocated_by_reading(plain) < 2 * READ_BYTES
    for name in ("scan.nii.gz", "other.nii"):
        assert array.nbytes < allocated_by_reading(tmp_path / name) < array.nbytes + 6 * READ_BYTES


def test_a_plain_file_is_left_alone_and_may_be_replaced(tmp_path: Path) -> None:
    array = smooth_scan((4, 5, 6))
    path = save(tmp_path / "scan.nii", array)
    before = path.read_bytes()
    volume = read_nifti(path)
    volume.array[0, 0] = 3000
    assert path.read_bytes() == before
    save(tmp_path / "other.nii", np.zeros((4, 5, 6), np.int16)).replace(path)
    np.testing.assert_array_equal(volume.array[0, 1:], array[1:])
    assert (volume.array[0, 0] == 3000).all()
    assert not read_nifti(path).array.any()


@pytest.mark.parametrize("gap", [0, 1, 2, 16])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32])
def test_voxels_may_begin_anywhere(tmp_path: Path, gap: int, dtype: type) -> None:
    array = (smooth_scan((4, 5, 6)) % 100).astype(dtype)
    path = edit(save(tmp_path / "scan.nii", array), 108, "<f", 352 + gap)
    content = path.read_bytes()
    path.write_bytes(content[:352] + bytes(gap) + content[352:])
    np.testing.assert_array_equal(read_nifti(path).array[0], array)


def test_a_claim_beyond_deflates_ratio_is_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "claim.nii.gz", (512, 512, 3000), 2)
    with pytest.raises(UserError, match="cannot hold"):
        read_nifti(path)


def test_a_long_real_scan_is_within_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """512x512x3000 int16 (1.5 GB) passes every check of the header; its data ends early, which is what is found."""
    path = bomb(tmp_path / "long.nii.gz", (512, 512, 3000), 1)
    with path.open("ab") as file:
        file.write(gzip.compress(np.random.default_rng(0).bytes(3 << 20)))
    monkeypatch.setattr("stunet.imaging.formats.nifti._read_voxels", lambda stream, shape, *rest: np.zeros((1, 1, 1)))
    assert read_nifti(path).array.shape == (1, 1, 1, 1)


def test_any_damage_to_a_header_is_a_sentence_or_a_volume(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii", np.ones((3, 4, 5), np.int16))
    whole, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(0, 348, random.integers(1, 5))] = random.integers(0, 256)
        path.write_bytes(content.tobytes())
        try:
            volume = read_nifti(path)
        except UserError as error:
            refused += 1
            assert str(path) in str(error)
        else:
            assert volume.array.ndim == 4
            assert np.isfinite(volume.affine).all()
    assert 200 < refused < 1900
