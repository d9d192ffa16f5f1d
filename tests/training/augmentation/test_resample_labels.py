"""Voting corners against nnU-Net's interpolation of a map for each label."""

import pytest
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform as NNUNetSpatial

from stunet.training.augmentation.resample_labels import _vote, resample_labels
from tests.training.augmentation.samples import noise

PATCH = (20, 24, 18)


def nnunets(labels, grid):
    theirs = NNUNetSpatial(
        tuple(grid.shape[:-1]), 0, random_crop=False, border_mode_seg="constant", padding_value_seg=-1
    )
    return theirs._apply_to_segmentation(labels, grid=grid)


def random_labels(kinds, size=(16, 17, 18), blocks=5):
    """Random blocks, so that up to eight labels meet."""
    coarse = torch.randint(0, kinds, (1, 1, *(blocks,) * len(size)), generator=noise(1)).float()
    return torch.nn.functional.interpolate(coarse, size)[0].short()


def random_grid(size, reach):
    return (torch.rand(*size, len(size), generator=noise(2)) * 2 - 1) * reach


@pytest.mark.parametrize("kinds", [2, 3, 105])
@pytest.mark.parametrize("reach", [0.8, 1.3])  # within the volume, and beyond it
def test_equals_nnunets(kinds, reach):
    labels, grid = random_labels(kinds), random_grid(PATCH, reach)
    result = resample_labels(labels, grid, -1)
    assert result.dtype == torch.int16
    assert (-1 in result) == (reach > 1)
    assert torch.equal(result, nnunets(labels, grid))


@pytest.mark.parametrize("kinds", [2, 3, 105])
def test_ties_are_nnunets(kinds):
    """Points in the middle of two, four or eight voxels."""
    labels = random_labels(kinds, blocks=16)
    steps = [(torch.arange(2 * n + 1) / n - 1) for n in labels.shape[1:]]  # every border and every middle
    grid = torch.stack(torch.meshgrid(*steps, indexing="ij"), -1).flip(-1).contiguous()
    assert torch.equal(resample_labels(labels, grid, -1), nnunets(labels, grid))


def test_each_slice_is_resampled_alike():
    labels = random_labels(4, size=(30, 40)).expand(3, -1, -1).clone()
    labels[1] = 7
    labels[2] += 1
    grid = random_grid((20, 25), 1.1)
    assert torch.equal(resample_labels(labels, grid, -1), nnunets(labels, grid))


def test_a_vote_on_every_voxel_gives_the_same():
    """What is done on a GPU, where the cells that need no vote are not left out."""
    labels, grid = random_labels(9), random_grid(PATCH, 1.2)
    padded = torch.nn.functional.pad(labels, (1,) * 6, value=-1)
    sizes = enumerate(labels.shape[1:])
    positions = [((grid[..., 2 - axis].flatten() + 1) * n - 1) / 2 for axis, n in sizes]
    everywhere = _vote(padded, torch.zeros(1, 1, dtype=torch.int64), positions)
    assert torch.equal(everywhere.view(1, *PATCH), resample_labels(labels, grid, -1))
