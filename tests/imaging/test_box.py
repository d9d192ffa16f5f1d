"""The body in a CT: a real trunk put into air, on a table."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from stunet.imaging.box import MARGIN_MM, body_box, nonzero_box
from stunet.imaging.formats.registry import read_volume
from stunet.imaging.preprocess import cropped_view, prepare
from stunet.imaging.volume import Volume
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan

AIR = -1000
SPACING = (3.0, 3.0, 3.0)


@pytest.fixture
def trunk(shared_data: Path) -> np.ndarray:
    """(30, 101, 122) voxels of 3 mm, cut off by skin or image on all sides."""
    return read_volume(shared_data / "totalseg_example" / "ct_crop.nii.gz").array[0]


def in_air(trunk: np.ndarray) -> np.ndarray:
    scan = np.full((1, 30, 180, 200), AIR, dtype=np.int16)
    scan[0, :, 30:131, 40:162] = trunk
    scan[0, :, 145:147, 10:190] = 300  # the table, 14 voxels (42 mm) below
    return scan


def test_the_body_and_its_margin_without_the_table(trunk: np.ndarray) -> None:
    padded = SimpleITK.GetImageFromArray(np.pad(in_air(trunk)[0], ((2, 2), (0, 0), (0, 0)), mode="edge"))
    dense = SimpleITK.BinaryMorphologicalOpening(padded > -500, (1, 1, 1), SimpleITK.sitkBox)
    regions = SimpleITK.RelabelComponent(SimpleITK.ConnectedComponent(dense, True))
    body_ZYX = SimpleITK.GetArrayFromImage(regions)[2:-2] == 1
    box = body_box(in_air(trunk), SPACING)
    margin = MARGIN_MM / 3
    for found, body, size in zip(box, nonzero_box(body_ZYX[None]), (30, 180, 200), strict=True):
        assert abs(found[0] - max(0, body[0] - margin)) <= 1
        assert abs(found[1] - min(size, body[1] + margin)) <= 1
    assert box[1][1] < 145


def test_thick_slices_and_fine_pixels(trunk: np.ndarray) -> None:
    fine = in_air(trunk)[:, ::4].repeat(3, axis=2).repeat(3, axis=3)
    box = body_box(fine, (12.0, 1.0, 1.0))
    assert box[0] == (0, 8)
    for found, coarse in zip(box[1:], body_box(in_air(trunk), SPACING)[1:], strict=True):
        assert np.abs(np.array(found) - 3 * np.array(coarse)).max() <= 9


def test_legs_count_and_instruments_do_not() -> None:
    scan = np.full((1, 20, 60, 100), AIR)
    scan[0, :, 20:40, 30:45] = scan[0, :, 20:40, 55:70] = 40
    scan[0, 5:9, 20:24, 90:94] = 40
    assert body_box(scan, (4.0, 4.0, 4.0)) == ((0, 20), (15, 45), (25, 75))


@pytest.mark.parametrize("shape", [(6, 7, 8), (1, 40, 50)])
def test_all_of_it_where_there_is_no_body_or_nothing_else(shape: tuple[int, int, int]) -> None:
    whole = tuple((0, size) for size in shape)
    assert body_box(np.full((1, *shape), AIR), SPACING) == whole
    assert body_box(np.full((1, *shape), 40), SPACING) == whole


@pytest.mark.parametrize("convention", ["nnunet_v1", "nnunet_v2"])
@pytest.mark.parametrize("use_mask", [False, True])
def test_a_part_is_what_it_is_in_the_whole(trunk: np.ndarray, convention: str, use_mask: bool) -> None:
    """On one spacing, where resampling does nothing: statistics and mask are those of the whole scan."""
    volume = Volume(in_air(trunk), np.diag([*SPACING, 1.0]))
    channel = ChannelNormalization("zscore", use_mask=use_mask)
    plan = PreprocessingPlan(convention, SPACING, (16, 16, 16), (channel,))  # type: ignore[arg-type]
    whole, part = prepare(volume, plan), prepare(volume, plan, find_part=body_box)
    z, y, x = body_box(volume.array, SPACING)
    assert part.record.crop_box == (z, y, x)
    expected = whole.planes(0, 30)[:, z[0] : z[1], y[0] : y[1], x[0] : x[1]]
    torch.testing.assert_close(part.planes(0, part.shape[1]), expected, rtol=0, atol=0)
    np.testing.assert_array_equal(
        cropped_view(volume.array, part.record), volume.array[:, z[0] : z[1], y[0] : y[1], x[0] : x[1]]
    )
