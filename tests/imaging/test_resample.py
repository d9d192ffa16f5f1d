"""The operators against scikit-image, scipy and nnU-Net's resampling function."""

import numpy as np
import pytest
import torch

from stunet.imaging.resample import (
    Interpolation,
    ResampledPlanes,
    Resampling,
    axis_operator,
    linear_taps,
    nearest_taps,
    resample,
    separate_axis,
)
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
    result = resample(array.swapaxes(1, 1 + front), turned, Interpolation(order, None if axis is None else 0, 0))
    difference = np.abs(result.numpy().swapaxes(1, 1 + front) - expected).max() / np.ptp(array)
    print(f"order {order}, separate {axis}, {array.shape[1:]} -> {shape}: {difference:.1e} of the range")
    assert difference < 1e-6


@pytest.mark.parametrize("front_order", [0, 1, 3])
def test_every_order_across_thick_slices_is_nnunets(front_order: int) -> None:
    nnunet = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    array = smooth_scan((9, 25, 26))[None]
    expected = nnunet.resample_data_or_seg(array.astype(np.float32), (24, 31, 22), False, 0, 3, True, front_order)
    result = resample(array, (24, 31, 22), Interpolation(3, 0, front_order))
    assert np.abs(result.numpy() - expected).max() / np.ptp(array) < 1e-6


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2"])
def test_any_type_and_any_view_is_resampled_and_left_alone(dtype: type) -> None:
    array = (np.abs(smooth_scan((8, 9, 10))) % 200).astype(dtype)[None, ::-1, :, ::2]
    before = array.copy()
    array.flags.writeable = False
    expected = resample(before.astype(np.float32, order="C"), (5, 13, 6), Interpolation())
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


class Recorder:
    """Gives planes of an array, and remembers which."""

    def __init__(self, array_ZYX: np.ndarray):
        self.array_ZYX = array_ZYX
        self.asked: list[int] = []

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        self.asked += range(start, stop)
        return torch.from_numpy(self.array_ZYX[start:stop].astype(np.float32))


def resampled_planes(read: Recorder, new_shape: tuple[int, ...], interpolation: Interpolation) -> ResampledPlanes:
    resampling = Resampling(read.array_ZYX.shape, new_shape, interpolation, torch.device("cpu"))
    planes = ResampledPlanes(read, resampling)
    read.asked.clear()
    return planes


@pytest.mark.parametrize("front", [0, 1, 2])
def test_the_thick_axis_need_not_be_turned_to_the_front(front: int) -> None:
    array = smooth_scan((23, 25, 26))[None]
    new_shape = [31, 20, 33]
    turned = resample(array.swapaxes(1, 1 + front), np.array(new_shape)[swapped(front)], Interpolation(3, 0, 0))
    straight = resample(array, new_shape, Interpolation(3, front, 0))
    assert (straight.swapaxes(1, 1 + front) - turned).abs().max() < 1e-6 * np.ptp(array)


def swapped(front: int) -> list[int]:
    return [front if axis == 0 else 0 if axis == front else axis for axis in range(3)]


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize("depth", [57, 100, 131])
def test_planes_of_a_long_scan_are_those_of_the_whole_matrices(order: int, depth: int) -> None:
    """In float64 with every weight, against float32 with those that are not negligible."""
    array = smooth_scan((100, 9, 8)).astype(np.float64)
    operators = [axis_operator(n_in, n_out, order) for n_in, n_out in zip(array.shape, (depth, 12, 6), strict=True)]
    expected = np.einsum("az,by,cx,zyx->abc", *operators, array, optimize=True).clip(array.min(), array.max())
    planes = resampled_planes(Recorder(array), (depth, 12, 6), Interpolation(order))
    for start in range(0, depth, 10):
        difference = np.abs(planes(start, min(start + 10, depth)).numpy() - expected[start : start + 10]).max()
        assert difference < 1e-6 * np.ptp(array)


@pytest.mark.parametrize(("n_in", "n_out"), [(400, 267), (400, 400), (400, 1000), (400, 80)])
@pytest.mark.parametrize("interpolation", [Interpolation(), Interpolation(1), Interpolation(3, 0), Interpolation(0)])
def test_few_planes_are_made_of_few(n_in: int, n_out: int, interpolation: Interpolation) -> None:
    read = Recorder(smooth_scan((n_in, 4, 5)))
    planes = resampled_planes(read, (n_out, 4, 6), interpolation)
    planes(0, 16)
    band = 17
    assert len(read.asked) <= 16 * n_in / n_out + band
    read.asked.clear()
    planes(n_out // 2, n_out // 2 + 16)
    assert len(read.asked) <= 16 * n_in / n_out + 2 * band


@pytest.mark.parametrize("step", [1, 7, 64])
@pytest.mark.parametrize("front", [None, 0, 1, 2])
def test_each_plane_is_read_once_on_the_way_through(step: int, front: int | None) -> None:
    read = Recorder(smooth_scan((90, 8, 9)))
    planes = resampled_planes(read, (61, 10, 7), Interpolation(3, front, 1))
    for start in range(0, 61, step):
        planes(start, min(start + step, 61))
    assert read.asked == list(range(90))


def test_planes_are_the_same_in_any_order() -> None:
    planes = resampled_planes(Recorder(smooth_scan((90, 8, 9))), (61, 10, 7), Interpolation())
    whole = planes(0, 61)
    for start, stop in [(30, 40), (10, 35), (35, 36), (0, 61), (20, 21), (60, 61)]:
        torch.testing.assert_close(planes(start, stop), whole[start:stop], atol=1e-3, rtol=0)


def test_planes_are_the_callers_to_write_to() -> None:
    """Also where nothing needs to be computed."""
    for shape in [(9, 8, 7), (9, 8, 10)]:
        written, left = (resampled_planes(Recorder(smooth_scan((9, 8, 7))), shape, Interpolation()) for _ in range(2))
        written(2, 5).fill_(np.nan)
        left(2, 5)
        assert torch.equal(written(3, 6), left(3, 6))
