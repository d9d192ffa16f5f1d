"""From voxels to millimetres, and affines that are refused."""

import numpy as np
import pytest

from stunet.errors import UserError
from stunet.imaging.affine import check_affine, voxel_to_world
from tests.phantoms import rotated_affine


def test_world_and_voxel_maps_are_inverse() -> None:
    affine = rotated_affine((0.7, 0.9, 2.5))
    points = np.random.default_rng(0).normal(size=(10, 3))
    np.testing.assert_allclose(
        voxel_to_world(np.linalg.inv(affine), voxel_to_world(affine, points)), points, atol=1e-12
    )
    np.testing.assert_allclose(voxel_to_world(affine, [1, 2, 3]), (affine @ [1, 2, 3, 1])[:3])


def test_affines_that_no_scan_has_are_refused() -> None:
    sheared = np.eye(4)
    sheared[0, 2] = 0.2
    for affine, reason in (
        (sheared, "sheared .11.3 degrees"),
        (np.diag([1, 1, 0, 1.0]), "singular"),
        (np.diag([np.nan, 1, 1, 1]), "not finite"),
        (np.diag([1, 1, 500.0, 1]), "1 x 1 x 500 mm"),
    ):
        with pytest.raises(UserError, match=reason):
            check_affine(affine, "x")
    check_affine(rotated_affine((0.5, 0.5, 5)), "x")
