"""Add two augmentations to nnU-Net's transforms that the paper names and nnU-Net's defaults leave out.

Section 4 names additive brightness, gamma, rotation, scaling, mirror and elastic deformation, without parameters. The
parameters are those of nnU-Net 1.7, the paper's framework (`stunet.training.augmentation`). The one exception is the
strength of the deformation, which batchgeneratorsv2 defines as the largest displacement.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import (
    BrightnessAdditiveTransform,
    MultiplicativeBrightnessTransform,
)
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from stunet.training.augmentation.elastic import ElasticDeformation
from stunet.training.augmentation.intensity import AdditiveBrightness

BRIGHTNESS, ELASTIC = AdditiveBrightness(), ElasticDeformation()
"""Probability, strength and smoothness: as on the device."""

ELASTIC_LARGEST_VOXELS = 7.0
"""The largest displacement along an axis is drawn from 0 to this, or to an eighth of a short axis. nnU-Net 1.7 draws a
factor instead (elastic_deform_alpha, 0 to 900). With it, the largest displacement is 3.7 on average and rarely above 7
in a patch of 128^3 voxels, and 2.1 and rarely above 5 in one of 40 x 56 x 40."""

ELASTIC_LARGEST_FRACTION = 1 / 8
"""Fraction of an axis' length."""


def elastic_scale(*_: Any, patch_size: Sequence[int], dim: int, **__: Any) -> float:
    """The smoothness as a fraction of an axis' length, as batchgeneratorsv2 expects it."""
    return float(np.random.uniform(*ELASTIC.deviation)) / patch_size[dim]


def elastic_magnitude(*_: Any, patch_size: Sequence[int], dim: int, **__: Any) -> float:
    """The largest displacement along an axis, in voxels."""
    return float(np.random.uniform(0, min(ELASTIC_LARGEST_VOXELS, ELASTIC_LARGEST_FRACTION * patch_size[dim])))


def with_paper_transforms(transforms: ComposeTransforms) -> ComposeTransforms:
    """nnU-Net's training transforms with elastic deformation, and additive brightness after multiplicative brightness.

    Raises:
        ValueError: nnU-Net's two transforms that ours follow are missing.
    """
    added = RandomTransform(
        BrightnessAdditiveTransform(
            mu=BRIGHTNESS.mean,
            sigma=BRIGHTNESS.deviation,
            synchronize_channels=False,  # synchronised channels would get a uniform draw from (mu, sigma)
            p_per_channel=BRIGHTNESS.channel_probability,
        ),
        apply_probability=BRIGHTNESS.probability,
    )
    changed: list[BasicTransform] = []
    for transform in transforms.transforms:
        changed.append(_elastic(transform) if isinstance(transform, SpatialTransform) else transform)
        if isinstance(getattr(transform, "transform", None), MultiplicativeBrightnessTransform):
            changed.append(added)
    if len(changed) != len(transforms.transforms) + 1 or not any(isinstance(t, SpatialTransform) for t in changed):
        raise ValueError("nnU-Net's transforms are not those that this version of stunet knows")
    return ComposeTransforms(changed)


def _elastic(transform: SpatialTransform) -> SpatialTransform:
    transform = copy(transform)
    transform.p_elastic_deform = ELASTIC.probability
    transform.elastic_deform_scale = elastic_scale
    transform.elastic_deform_magnitude = elastic_magnitude
    return transform
