from itertools import product

import pytest
import torch

from stunet.inference.accumulator import SlabAccumulator
from stunet.inference.windows import gaussian_weight, window_starts


@pytest.mark.parametrize(
    ("image", "window", "step"),
    [
        ((40, 12, 9), (8, 6, 9), 0.5),
        ((23, 7, 8), (7, 5, 4), 0.3),
        ((9, 4, 4), (9, 4, 4), 0.5),
        ((30, 4, 4), (5, 4, 4), 1),
    ],
)
def test_equals_the_sum_over_the_whole_volume(image, window, step):
    torch.manual_seed(0)
    weight = gaussian_weight(window)
    starts = window_starts(image, window, step)
    slab = SlabAccumulator(3, image, weight)
    sums, weights = torch.zeros(*image, 3, dtype=torch.float64), torch.zeros(image, dtype=torch.float64)
    planes = []
    for z, next_z in zip(starts[0], [*starts[0][1:], image[0]], strict=True):
        for y, x in product(*starts[1:]):
            features = torch.randn(*window, 3)
            slab.add(features, (z, y, x))
            place = (slice(z, z + window[0]), slice(y, y + window[1]), slice(x, x + window[2]))
            sums[place] += (features * weight[..., None]).double()
            weights[place] += weight
        planes += list(slab.release(next_z))
    torch.testing.assert_close(torch.stack(planes).double(), sums / weights[..., None], rtol=1e-5, atol=1e-5)


def test_half_precision_is_added_in_single():
    weight = gaussian_weight((4, 4, 4))
    slab = SlabAccumulator(1, (4, 4, 4), weight)
    features = torch.randn(4, 4, 4, 1).half()
    slab.add(features, (0, 0, 0))
    (*planes,) = slab.release(4)
    torch.testing.assert_close(torch.stack(planes), features.float(), rtol=1e-6, atol=0)


def test_windows_come_in_order():
    slab = SlabAccumulator(1, (12, 4, 4), torch.ones(4, 4, 4))
    slab.add(torch.zeros(4, 4, 4, 1), (0, 0, 0))
    with pytest.raises(ValueError, match="plane 2"):
        slab.add(torch.zeros(4, 4, 4, 1), (2, 0, 0))
