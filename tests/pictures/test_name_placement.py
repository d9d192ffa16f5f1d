import numpy as np
import pytest

from stunet.pictures.name_placement import spread


def test_spread_keeps_order_and_distance_and_leaves_alone_what_has_room():
    heights = dict(zip("abcdef", np.random.default_rng(0).uniform(0, 30, 6), strict=True))
    moved = spread(heights, 4.0)
    assert sorted(moved, key=moved.get) == sorted(heights, key=heights.get)
    assert np.diff(sorted(moved.values())).min() > 4.0 - 1e-9
    assert spread({"a": 0.0, "b": 5.0}, 4.0) == {"a": 0.0, "b": 5.0}
    assert sum(moved.values()) == pytest.approx(sum(heights.values()))
