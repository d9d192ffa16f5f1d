"""Statistics against numpy's; each scheme against its formula; what is outside a mask."""

import numpy as np
import pytest
import torch

from stunet.imaging.normalize import EPSILON, intensity_map, measure_intensities, normalized
from stunet.plans.preprocessing import ChannelNormalization
from tests.phantoms import smooth_scan


def reader(array_ZYX: np.ndarray):
    return lambda start, stop: torch.from_numpy(array_ZYX[start:stop].astype(np.float32))


def planes_of(array_ZYX, channel, convention, mask=None):
    intensity = intensity_map(reader(array_ZYX), array_ZYX.shape, channel, convention, mask)
    return normalized(reader(array_ZYX), intensity, mask)


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("masked", [False, True])
def test_statistics_are_numpys(offset: float, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of large values that hardly differ, in several slabs."""
    monkeypatch.setattr("stunet.imaging.resample.SLAB_VOXELS", 300)
    array = (smooth_scan((20, 13, 9)) + offset).astype(np.float32)
    mask = smooth_scan((20, 13, 9), seed=1) > 0 if masked else np.ones(array.shape, bool)
    mask[:3] &= not masked
    found = measure_intensities(reader(array), array.shape, reader(mask) if masked else None)
    inside = array[mask].astype(np.float64)
    np.testing.assert_allclose([found.mean, found.std], [inside.mean(), inside.std()], rtol=1e-9)
    assert (found.low, found.high) == (inside.min(), inside.max())


SCHEMES = {
    "ct": lambda values: (values.clip(-200, 300) - 40) / 90,
    "zscore": lambda values: (values - values.mean()) / values.std(),
    "rescale_to_0_1": lambda values: (values - values.min()) / np.ptp(values),
    "rgb_to_0_1": lambda values: values / 255,
    "none": lambda values: values,
}


@pytest.mark.parametrize("convention", ["nnunet_v1", "nnunet_v2"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_is_its_formula(scheme: str, convention: str) -> None:
    array = smooth_scan((12, 7, 9))
    mask = smooth_scan((12, 7, 9), seed=1) > 0
    channel = ChannelNormalization(scheme, 40.0, 90.0, -200.0, 300.0)  # type: ignore[arg-type]
    everywhere = planes_of(array, channel, convention)
    expected = SCHEMES[scheme](array.astype(np.float64))
    np.testing.assert_allclose(everywhere(3, 8).numpy(), expected[3:8], rtol=1e-5, atol=1e-5)
    inside = planes_of(array, channel, convention, reader(mask))
    expected = np.zeros(array.shape)
    expected[mask] = SCHEMES[scheme](array[mask].astype(np.float64))
    np.testing.assert_allclose(inside(0, 12).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_an_empty_mask_and_a_constant_channel_become_zeros() -> None:
    array = np.full((3, 4, 5), 7)
    for convention in ("nnunet_v1", "nnunet_v2"):
        for mask in (None, reader(np.zeros(array.shape, bool))):
            channel = ChannelNormalization("zscore")
            planes = planes_of(array, channel, convention, mask)
            assert not planes(0, 3).any()
    assert EPSILON == 1e-8
