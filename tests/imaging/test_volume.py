"""Scans in memory: orientations against nibabel, channels, what is refused."""

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK

from stunet.errors import UserError
from stunet.imaging.affine import orientation, voxel_to_world
from stunet.imaging.volume import Volume, check_size, reorient, stack_channels
from tests.phantoms import rotated_affine, smooth_scan

ORIENTATIONS = [
    "".join(letters) for order in itertools.permutations(("LR", "PA", "IS")) for letters in itertools.product(*order)
]


def volume_in(axcodes: str, oblique: bool = False) -> Volume:
    """A 3-channel volume whose affine runs as the letters say, made with nibabel."""
    base = rotated_affine((0.7, 0.9, 2.5)) if oblique else np.diag([0.7, 0.9, 2.5, 1.0])
    image = nibabel.Nifti1Image(smooth_scan((6, 5, 4)).transpose(2, 1, 0), base)
    moves = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(base), nibabel.orientations.axcodes2ornt(axcodes)
    )
    moved = image.as_reoriented(moves)
    array = np.asanyarray(moved.dataobj).transpose(2, 1, 0)
    return Volume(np.stack([array, array + 1, array + 2]), moved.affine)


def world_to_voxel(affine, point_ras):
    return voxel_to_world(np.linalg.inv(affine), point_ras)


def undone(moves, moved, like):
    """What becomes `moved` when the moves are applied."""
    array = np.empty_like(like)
    moves.apply(array)[...] = moved
    return array


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_any_orientation_is_named_brought_to_ras_and_back(axcodes: str, oblique: bool) -> None:
    volume = volume_in(axcodes, oblique)
    assert orientation(volume.affine) == axcodes == "".join(nibabel.aff2axcodes(volume.affine))
    straight, moves = reorient(volume, "RAS")
    reference = volume_in("RAS", oblique)
    np.testing.assert_array_equal(straight.array, reference.array)
    np.testing.assert_allclose(straight.affine, reference.affine, atol=1e-12)
    np.testing.assert_allclose(straight.spacing, reference.spacing)
    assert np.shares_memory(straight.array, volume.array)
    np.testing.assert_array_equal(undone(moves, straight.array, volume.array), volume.array)
    np.testing.assert_array_equal(undone(moves, straight.array[0], volume.array[0]), volume.array[0])


@pytest.mark.parametrize("target", ["LPS", "PSR", "SAL"])
def test_reorient_keeps_every_voxel_in_its_place_in_the_world(target: str) -> None:
    volume = volume_in("LAS", oblique=True)
    moved, _ = reorient(volume, target)
    assert orientation(moved.affine) == target
    index = np.array([1, 2, 0])
    there = world_to_voxel(moved.affine, voxel_to_world(volume.affine, index)).round().astype(int)
    assert moved.array[1][tuple(there[::-1])] == volume.array[1][tuple(index[::-1])]


@pytest.mark.parametrize("target", ["RAP", "RA", "XYZ", "ras"])
def test_a_word_that_is_no_orientation_is_a_mistake(target: str) -> None:
    with pytest.raises(ValueError, match="orientation"):
        reorient(volume_in("RAS"), target)


def test_spacing_is_the_stated_one_where_there_is_one() -> None:
    array, affine = np.zeros((1, 2, 2, 2)), rotated_affine((0.7, 0.9, 2.5))
    np.testing.assert_allclose(Volume(array, affine).spacing, (2.5, 0.9, 0.7))
    assert Volume(array, affine, stated_spacing=(2.5, 0.9, 0.7)).spacing == (2.5, 0.9, 0.7)


def test_channels_of_one_grid_are_stacked() -> None:
    first, second = (Volume(smooth_scan((4, 5, 6), seed)[None], np.eye(4), source=str(seed)) for seed in (1, 2))
    both = stack_channels([first, second])
    assert both.source == "1"
    np.testing.assert_array_equal(both.array[1], second.array[0])
    assert stack_channels([first]) is first


def test_channels_of_different_grids_are_refused() -> None:
    first = Volume(np.zeros((1, 4, 5, 6)), np.eye(4), source="first.nii")
    with pytest.raises(UserError, match=r"other\.nii: has 6x5x3 voxels, but first\.nii has 6x5x4"):
        stack_channels([first, Volume(np.zeros((1, 3, 5, 6)), np.eye(4), source="other.nii")])
    moved = np.eye(4)
    moved[0, 3] = 2.0
    with pytest.raises(UserError, match=r"other\.nii: is up to 2 mm away"):
        stack_channels([first, Volume(np.zeros((1, 4, 5, 6)), moved, source="other.nii")])
    with pytest.raises(ValueError, match="no volume"):
        stack_channels([])


def test_a_grid_that_no_scanner_makes_is_refused() -> None:
    check_size((8192, 512, 512), "x")
    with pytest.raises(UserError, match="30000x30000x30000"):
        check_size((30000,) * 3, "x")


def test_arrays_of_another_rank_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="C, Z, Y, X"):
        Volume(np.zeros((2, 2, 2)), np.eye(4))


@pytest.mark.parametrize("affine", [np.eye(4).tolist(), np.eye(4, dtype=np.float32), np.eye(4, dtype=int)])
def test_an_affine_of_any_kind_becomes_float64(affine) -> None:
    for volume in (Volume(np.zeros((1, 2, 3, 4)), affine), Volume.from_array(np.zeros((2, 3, 4)), affine)):
        assert volume.affine.dtype == np.float64
        np.testing.assert_array_equal(volume.affine, np.eye(4))


@pytest.mark.parametrize(
    ("stored", "kept"),
    [("bool", "uint8"), (">i2", "int16"), ("uint16", "uint16"), ("float64", "float32"), ("float16", "float32")],
)
def test_arrays_become_what_files_give(stored, kept) -> None:
    volume = Volume.from_array(np.ones((2, 3, 4)).astype(stored), np.eye(4))
    assert volume.array.dtype == np.dtype(kept) and volume.array.shape == (1, 2, 3, 4) and volume.array.all()
    assert volume.array.dtype.isnative


def test_an_array_in_the_right_type_is_not_copied() -> None:
    array = smooth_scan((4, 5, 6))
    assert np.shares_memory(Volume.from_array(array, np.eye(4)).array, array)


def test_a_spacing_places_voxels_as_simpleitk_does() -> None:
    image = SimpleITK.GetImageFromArray(smooth_scan((4, 5, 6)))
    image.SetSpacing((0.7, 0.8, 2.5))
    volume = Volume.from_array(smooth_scan((4, 5, 6)), spacing=(2.5, 0.8, 0.7))
    x, y, z = image.TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose(voxel_to_world(volume.affine, [1, 2, 3]), (-x, -y, z))
    assert orientation(volume.affine) == "LPS" and volume.spacing == (2.5, 0.8, 0.7)


SHEARED = [[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("array", "place", "sentence"),
    [
        (np.zeros((2, 3)), {"affine": np.eye(4)}, "three axes"),
        (np.zeros((1, 1, 2, 3, 4)), {"affine": np.eye(4)}, "three axes"),
        (np.zeros((0, 3, 4)), {"affine": np.eye(4)}, "with voxels"),
        (np.zeros((2, 3, 4), complex), {"affine": np.eye(4)}, "real numbers, not complex"),
        (np.full((2, 3, 4), "a"), {"affine": np.eye(4)}, "real numbers, not <U1"),
        ([[1, 2], [3]], {"affine": np.eye(4)}, "array of numpy"),
        (np.zeros((2, 3, 4)), {}, "either an affine or a spacing"),
        (np.zeros((2, 3, 4)), {"affine": np.eye(4), "spacing": (1, 1, 1)}, "either an affine or a spacing"),
        (np.zeros((2, 3, 4)), {"affine": np.eye(3)}, "4x4"),
        (np.zeros((2, 3, 4)), {"affine": "RAS"}, "matrix of numbers"),
        (np.zeros((2, 3, 4)), {"affine": np.diag([1, 1, np.inf, 1])}, "not finite"),
        (np.zeros((2, 3, 4)), {"affine": np.diag([1, 1, 0, 1])}, "singular"),
        (np.zeros((2, 3, 4)), {"affine": SHEARED}, "sheared"),
        (np.zeros((2, 3, 4)), {"affine": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 5, 5, 1]]}, "transposed"),
        (np.zeros((2, 3, 4)), {"affine": np.diag([1, 1, 500, 1])}, "500 mm"),
        (np.zeros((2, 3, 4)), {"spacing": (1, 1)}, "three numbers"),
        (np.zeros((2, 3, 4)), {"spacing": 1.5}, "three numbers"),
        (np.zeros((2, 3, 4)), {"spacing": (0, 1, 1)}, "voxels of 1 x 1 x 0 mm"),
        (np.zeros((2, 3, 4)), {"spacing": (np.nan, 1, 1)}, "nan mm"),
    ],
)
def test_what_no_scan_is(array, place, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        Volume.from_array(array, **place)
    if isinstance(array, np.ndarray) and array.ndim == 3 and "affine" in place and "spacing" not in place:
        with pytest.raises(UserError, match=sentence):
            Volume(np.asarray(array)[None], place["affine"])
