"""The operators against scikit-image, scipy and nnU-Net's resampling function."""

import numpy as np
import pytest
import torch

from stunet.imaging.resample import Interpolation, axis_operator, linear_taps, nearest_taps, resample, separate_axis
from tests.phantoms import smooth_scan

SIZES = [(1, 1), (1, 5), (5, 1), (2, 3), (3, 2), (7, 7), (9, 10), (10, 9), (37, 91), (91, 37), (120, 61), (64, 128)]
SPACINGS = [(3.0, 1.0, 1.0), (1.0, 4.0, 1.0), (1.0, 1.1, 5.0), (5.0, 5.0, 1.0), (1.0, 1.0, 1.0), (2.0, 1.0, 0.9)]


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
@pytest.mark.parametrize("order", [0, 1, 2, 3, 5])
def test_an_operator_is_skimages_resize(n_in: int, n_out: int, order: int) -> None:
    transform = pytest.importorskip("skimage.transform")
    signal = np.random.default_rng(n_in).normal(size=n_in)
    expected = transform.resize(signal, (n_out,), order, mode="edge", anti_aliasing=False, clip=False)
    np.testing.assert_allclose(axis_operator(n_in, n_out, order) @ signal, expected, atol=1e-12)


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
def test_taps_are_the_operators_in_sparse_form(n_in: int, n_out: int) -> None:
    lower, upper, weight = linear_taps(n_in, n_out)
    matrix = np.zeros((n_out, n_in))
    np.add.at(matrix, (np.arange(n_out), lower), 1.0 - weight)
    np.add.at(matrix, (np.arange(n_out), upper), weight)
    np.testing.assert_allclose(matrix, axis_operator(n_in, n_out, 1), atol=1e-6)
    assert lower.dtype == upper.dtype == nearest_taps(n_in, n_out).dtype == np.int64
    assert weight.dtype == np.float32
    assert ((weight >= 0) & (weight <= 1)).all()


def test_nearest_taps_are_nnunets_at_every_size() -> None:
    """Ties included: nnU-Net computes map_coordinates(order=0) at these positions."""
    from scipy.ndimage import map_coordinates

    for n_in in range(1, 40):
        for n_out in range(1, 40):
            positions = float(n_in) / n_out * (np.arange(n_out) + 0.5) - 0.5
            expected = map_coordinates(np.arange(float(n_in)), [positions], order=0, mode="nearest")
            np.testing.assert_array_equal(nearest_taps(n_in, n_out), expected)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("other", SPACINGS)
@pytest.mark.parametrize("force", [None, True, False])
def test_the_thick_axis_is_nnunets(spacing: tuple, other: tuple, force: bool | None) -> None:
    resampling = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    separate, axis = resampling.determine_do_sep_z_and_axis(force, spacing, other, 3)
    assert separate_axis(spacing, other, force, 3) == (axis if separate else None)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("shape", [(20, 31, 27), (52, 40, 11), (23, 25, 26)])
def test_volumes_are_nnunets(order: int, axis: int | None, shape: tuple[int, int, int]) -> None:
    """Up and down along each axis, all alike (None) and with each axis treated separately."""
    nnunet = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    array = np.stack([smooth_scan((23, 25, 26), seed) for seed in (1, 2)])
    expected = nnunet.resample_data_or_seg(array.astype(np.float32), shape, False, axis, order, axis is not None, 0)
    front = 0 if axis is None else axis
    turned = [shape[front if a == 0 else 0 if a == front else a] for a in range(3)]
    result = resample(array.swapaxes(1, 1 + front), turned, Interpolation(order, axis is not None, 0))
    difference = np.abs(result.numpy().swapaxes(1, 1 + front) - expected).max() / np.ptp(array)
    print(f"order {order}, separate {axis}, {array.shape[1:]} -> {shape}: {difference:.1e} of the range")
    assert difference < 1e-6


@pytest.mark.parametrize("front_order", [0, 1, 3])
def test_every_order_across_thick_slices_is_nnunets(front_order: int) -> None:
    nnunet = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    array = smooth_scan((9, 25, 26))[None]
    expected = nnunet.resample_data_or_seg(array.astype(np.float32), (24, 31, 22), False, 0, 3, True, front_order)
    result = resample(array, (24, 31, 22), Interpolation(3, True, front_order))
    assert np.abs(result.numpy() - expected).max() / np.ptp(array) < 1e-6


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2"])
def test_any_type_and_any_view_is_resampled_and_left_alone(dtype: type) -> None:
    array = (np.abs(smooth_scan((8, 9, 10))) % 200).astype(dtype)[None, ::-1, :, ::2]
    before = array.copy()
    array.flags.writeable = False
    expected = resample(torch.from_numpy(before.astype(np.float32)), (5, 13, 6), Interpolation())
    torch.testing.assert_close(resample(array, (5, 13, 6), Interpolation()), expected)
    np.testing.assert_array_equal(array, before)


def test_the_same_shape_is_a_copy() -> None:
    array = smooth_scan((4, 5, 6))[None].astype(np.float32)
    result = resample(array, (4, 5, 6), Interpolation())
    result += 1
    np.testing.assert_array_equal(array, smooth_scan((4, 5, 6))[None])


def test_blocks_join_seamlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    array = smooth_scan((20, 30, 25))[None]
    whole = resample(array, (31, 20, 40), Interpolation())
    monkeypatch.setattr("stunet.imaging.resample.SLAB_VOXELS", 2000)
    torch.testing.assert_close(resample(array, (31, 20, 40), Interpolation()), whole, atol=1e-3, rtol=1e-5)
