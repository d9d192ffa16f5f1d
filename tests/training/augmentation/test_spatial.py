"""Resampling against batchgeneratorsv2's own, given the same numbers."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform as NNUNetSpatial
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert3DTo2DTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from stunet.training.augmentation import spatial
from stunet.training.augmentation.elastic import ElasticDraw
from stunet.training.augmentation.spatial import SpatialDraw, SpatialTransform, affine
from tests.training.augmentation.samples import (
    CROP,
    PATCH,
    ROTATION,
    arguments,
    assert_probability,
    assert_same_distribution,
    noise,
)

DRAWS = [
    SpatialDraw((0.4, -0.3, 0.1), None, None),
    SpatialDraw((), 1.37, None),
    SpatialDraw((), 0.72, None),
    SpatialDraw((-0.5, 0.5, -0.2), 1.2, None),
]


def nnunet_with(draw, patch=PATCH, **more):
    """nnU-Net's transform, made to draw these numbers."""
    return NNUNetSpatial(
        patch,
        0,
        random_crop=False,
        p_rotation=float(bool(draw.angles)),
        rotation=lambda image, dim: draw.angles[dim],
        p_scaling=float(draw.scale is not None),
        scaling=lambda image, dim: draw.scale,
        p_synchronize_scaling_across_axes=1,
        border_mode_seg="constant",
        padding_value_seg=-1,
        **more,
    )


def test_nnunets_own_transform_has_these_settings(nnunet):
    theirs, expected = nnunet[0], nnunet_with(DRAWS[0])
    names = ("mode_seg", "seg_tiebreak", "border_mode_seg", "padding_value_seg", "mode_image", "padding_mode_image")
    assert isinstance(theirs, NNUNetSpatial)
    assert all(getattr(theirs, name) == getattr(expected, name) for name in (*names, "align_corners", "random_crop"))


@pytest.mark.parametrize("draw", DRAWS)
def test_resampling_equals_nnunets(crop, draw):
    image, labels = crop
    theirs = nnunet_with(draw)
    params = theirs.get_parameters(image=image)
    ours = SpatialTransform(PATCH, ROTATION)
    np.testing.assert_allclose(affine(draw, 3), params["affine"], atol=1e-12)
    torch.testing.assert_close(ours.grid(draw, CROP, noise()), params["grid"], atol=1e-6, rtol=0)
    patch, patch_labels = ours.apply(image, labels, draw, noise())
    torch.testing.assert_close(patch, theirs._apply_to_image(image, **params), atol=1e-5, rtol=0)
    expected = theirs._apply_to_segmentation(labels, **params)
    assert patch_labels.dtype == expected.dtype == torch.int16
    assert (patch_labels == expected).float().mean() > 0.9999  # a rounding of the grid may tip a tie
    assert {0, 1, 2} <= set(patch_labels.unique().tolist())


def test_a_crop_equals_nnunets(crop):
    image, labels = crop
    nothing = SpatialDraw((), None, None)
    theirs = nnunet_with(nothing, patch=(25, 32, 24))  # an odd length of an even one: half a voxel to round
    params = theirs.get_parameters(image=image)
    patch, patch_labels = SpatialTransform((25, 32, 24), ROTATION).apply(image, labels, nothing, noise())
    assert torch.equal(patch, theirs._apply_to_image(image, **params))
    assert torch.equal(patch_labels, theirs._apply_to_segmentation(labels, **params))


@pytest.mark.parametrize("draw", [SpatialDraw((), None, None), DRAWS[-1]])
def test_deforming_equals_nnunets(crop, monkeypatch, draw):
    """Given one field of displacements: deform, scale, turn, then move the mean back to the centre."""
    image, _ = crop
    theirs = nnunet_with(draw, p_elastic_deform=1, elastic_deform_scale=(0.1, 0.3), elastic_deform_magnitude=(2, 4))
    params = theirs.get_parameters(image=image)
    monkeypatch.setattr(spatial, "displacement", lambda *_: params["elastic_offsets"].movedim(-1, 0))
    deformed = SpatialDraw(draw.angles, draw.scale, ElasticDraw(9.0, 100.0))
    ours = SpatialTransform(PATCH, ROTATION).grid(deformed, CROP, noise())
    torch.testing.assert_close(ours, params["grid"], atol=2e-6, rtol=0)


def test_in_slices_equals_nnunets(crop):
    image, labels = crop
    draw = SpatialDraw((0.6,), 1.2, None)
    theirs = nnunet_with(SpatialDraw((0.6, 0.6), 1.2, None), patch=PATCH[1:])
    flat = Convert3DTo2DTransform()(image=image.clone(), segmentation=labels.clone())
    params = theirs.get_parameters(image=flat["image"])
    ours = SpatialTransform(PATCH[1:], ROTATION)
    patch, patch_labels = ours.apply(flat["image"], flat["segmentation"], draw, noise())
    torch.testing.assert_close(patch, theirs._apply_to_image(flat["image"], **params), atol=1e-5, rtol=0)
    expected = theirs._apply_to_segmentation(flat["segmentation"], **params)
    assert (patch_labels == expected).float().mean() > 0.9999


@pytest.mark.parametrize("in_slices", [False, True])
def test_draws_are_distributed_as_nnunets(in_slices):
    patch = (4, 4, 4)
    theirs = nnUNetTrainer.get_training_transforms(**arguments(patch_size=patch, do_dummy_2d_data_aug=in_slices))
    transform = theirs.transforms[1 if in_slices else 0]
    axes = 2 if in_slices else 3
    image = torch.zeros(1, *patch[-axes:])
    np.random.seed(0)
    expected = [transform.get_parameters(image=image)["affine"] for _ in range(4000)]
    random = np.random.default_rng(0)
    ours = SpatialTransform(patch[-axes:], ROTATION)
    draws = [ours.draw(random) for _ in range(4000)]
    assert_probability([bool(draw.angles) for draw in draws], transform.p_rotation)
    assert_probability([draw.scale is not None for draw in draws], transform.p_scaling)
    assert_probability([draw.is_crop for draw in draws], np.mean([matrix is None for matrix in expected]))
    assert not any(draw.elastic for draw in draws)
    changed = [affine(draw, axes) for draw in draws if not draw.is_crop]
    expected = [matrix for matrix in expected if matrix is not None]
    for row in range(axes):
        for column in range(axes):
            assert_same_distribution([m[row, column] for m in changed], [m[row, column] for m in expected])
    assert_same_distribution([np.linalg.det(m) for m in changed], [np.linalg.det(m) for m in expected])
