"""TargetTransform against nnU-Net's validation transforms."""

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from stunet.training.augmentation.targets import TargetTransform
from tests.training.augmentation.samples import noise

UNEVEN = [[1, 1, 1], [1, 0.5, 0.5], [0.5, 0.25, 0.25]]


@pytest.mark.parametrize("scales", [None, UNEVEN])
@pytest.mark.parametrize(("regions", "ignore"), [(None, None), (((1, 2, 3), (2, 3), 3), None), (((1, 2), 2), 4)])
def test_equal_nnunets(scales, regions, ignore):
    labels = torch.randint(-1, 5, (2, 1, 16, 18, 20), generator=noise()).short()
    before = labels.clone()
    theirs = nnUNetTrainer.get_validation_transforms(scales, regions=regions, ignore_label=ignore)
    expected = [theirs(image=sample.float(), segmentation=sample.clone())["segmentation"] for sample in labels]
    result = TargetTransform(scales, regions, ignore)(labels)
    if scales is None:
        result, expected = [result], [[sample] for sample in expected]
    for level, target in enumerate(result):
        both = torch.stack([sample[level] for sample in expected])
        assert target.dtype == both.dtype
        assert torch.equal(target, both)
    assert torch.equal(labels, before)
