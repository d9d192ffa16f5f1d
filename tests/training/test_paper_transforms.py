"""What is added to nnU-Net's transforms, against nnU-Net's own and against those of nnU-Net 1.7."""

import numpy as np
import pytest
import torch
from batchgenerators.augmentations.utils import create_zero_centered_coordinate_mesh, elastic_deform_coordinates
from batchgeneratorsv2.transforms.intensity.brightness import BrightnessAdditiveTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from stunet.training.paper_transforms import with_paper_transforms

PATCH = (40, 56, 40)


@pytest.fixture
def transforms():
    """nnU-Net's for training."""
    return nnUNetTrainer.get_training_transforms(PATCH, (-0.5, 0.5), None, (0, 1, 2), False, [False])


def test_the_rest_is_nnunets(transforms):
    names = [str(transform) for transform in transforms.transforms]
    changed = with_paper_transforms(transforms).transforms
    assert [str(transform) for transform in transforms.transforms] == names  # nnU-Net's own are left as they were
    (added,) = [t for t in changed if isinstance(getattr(t, "transform", None), BrightnessAdditiveTransform)]
    assert "MultiplicativeBrightness" in str(changed[changed.index(added) - 1])
    rest = [transform for transform in changed if transform is not added]
    differing = [t for t, name in zip(rest, names, strict=True) if str(t) != name]
    assert [type(t) for t in differing] == [SpatialTransform]
    mine, theirs = vars(differing[0]), vars(transforms.transforms[0])
    assert {key for key in mine if mine[key] is not theirs[key]} == {
        "p_elastic_deform",
        "elastic_deform_scale",
        "elastic_deform_magnitude",
    }


def test_additive_brightness_is_normal_and_seldom(transforms):
    (added,) = [t for t in with_paper_transforms(transforms).transforms if "BrightnessAdditive" in str(t)]
    assert isinstance(added, RandomTransform)
    torch.manual_seed(0)
    shifts = np.array([added(image=torch.zeros(2, 1, 1, 1))["image"].flatten().tolist() for _ in range(20_000)])
    shifted = shifts[shifts != 0]
    assert len(shifted) / shifts.size == pytest.approx(0.15 * 0.5, abs=0.005)
    assert shifted.mean() == pytest.approx(0, abs=0.01)
    assert shifted.std() == pytest.approx(0.1, rel=0.05)


def test_elastic_deformation_is_about_as_large_as_in_nnunet_1(transforms):
    spatial = with_paper_transforms(transforms).transforms[0]
    np.random.seed(0)
    torch.manual_seed(0)
    image = torch.zeros(1, *PATCH)
    drawn = [spatial.get_parameters(image=image)["elastic_offsets"] for _ in range(400)]
    offsets = [offset for offset in drawn if offset is not None]
    assert len(offsets) / len(drawn) == pytest.approx(0.2, abs=0.05)
    ours = np.array([offset.abs().amax(dim=(0, 1, 2)).tolist() for offset in offsets])
    mesh = create_zero_centered_coordinate_mesh(PATCH)
    theirs = np.array(
        [
            np.abs(elastic_deform_coordinates(mesh, np.random.uniform(0, 900), np.random.uniform(9, 13)) - mesh).max(
                axis=(1, 2, 3)
            )
            for _ in range(60)
        ]
    )
    print(f"largest displacement, voxels: ours {ours.mean():.2f}, nnU-Net 1.7 {theirs.mean():.2f}")
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.5)
    assert ours.max() <= 7


def test_transforms_of_another_nnunet():
    with pytest.raises(ValueError, match="not those that this version"):
        with_paper_transforms(ComposeTransforms([]))
