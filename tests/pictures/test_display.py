import numpy as np
import pytest

from stunet.pictures.display import SOFT_TISSUE_HU, brightness, finite, intensity_window


def test_windows():
    random = np.random.default_rng(0)
    ct = np.concatenate([random.normal(-1000, 20, 4000), random.normal(50, 300, 4000)]).reshape(20, 20, 20)
    assert intensity_window(ct.astype(np.int16)) == SOFT_TISSUE_HU
    mr = random.gamma(2, 100, (20, 20, 20)).astype(np.float32)
    assert intensity_window(mr) == pytest.approx(np.percentile(mr, (0.5, 99.5)), rel=1e-4)
    assert intensity_window(np.full((4, 4, 4), 7)) == (7, 8)


def test_brightness_of_all_numbers():
    image = np.array([-np.inf, -5.0, 0.0, 2.5, 10.0, 99.0, np.inf, np.nan], dtype=np.float32)
    assert brightness(finite(image, (0.0, 10.0)), (0.0, 10.0)).tolist() == [0, 0, 0, 0.25, 1, 1, 1, 0]
