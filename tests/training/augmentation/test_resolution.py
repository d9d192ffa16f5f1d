"""Blur and low resolution against batchgeneratorsv2's own."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform, _build_kernel
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from stunet.training.augmentation.resolution import GaussianBlur, LowResolution, blur_kernel
from tests.training.augmentation.samples import arguments, assert_probability, assert_same_distribution, noise
from tests.training.augmentation.test_intensity import draw_many, find, ours


@pytest.mark.parametrize("deviation", [0.5, 0.58, 0.6, 0.75, 0.76, 0.9, 1.0])
def test_kernels_are_nnunets(deviation):
    torch.testing.assert_close(torch.tensor(blur_kernel(deviation)), _build_kernel(deviation, truncate=6))


@pytest.mark.parametrize("deviations", [(0.5, 0.75, 1.0), (0.9, 0.6, 0.7)])
def test_blur_equals_nnunets(crop, deviations):
    image, _ = crop
    theirs = GaussianBlurTransform((0.5, 1), False, False, 0.5, benchmark=False)  # nnU-Net's, without timing itself
    params = {"apply_to_channel": torch.tensor([True, False]), "sigmas": [list(deviations)]}
    expected = theirs._apply_to_image(image.clone(), **params)
    torch.testing.assert_close(ours(GaussianBlur(), image, deviations), expected[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [0.5, 0.63, 0.99])
@pytest.mark.parametrize("kept_axes", [(), (0,)])
def test_low_resolution_equals_nnunets(crop, nnunet, scale, kept_axes):
    image, _ = crop
    scales = torch.full((1, 3), scale)
    scales[:, kept_axes] = 1
    params = {"apply_to_channel": torch.tensor([0]), "scales": scales}
    expected = find(nnunet, SimulateLowResolutionTransform).transform._apply_to_image(image.clone(), **params)
    torch.testing.assert_close(ours(LowResolution(kept_axes=kept_axes), image, (scale,)), expected[0])
    assert not torch.equal(expected[0], image[0])


def test_blur_is_distributed_as_nnunets(crop, nnunet):
    theirs = find(nnunet, GaussianBlurTransform)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = [theirs.transform.get_parameters(image=crop[0]) for _ in range(1000)]
    draws = draw_many(GaussianBlur())
    numbers = [d.numbers for chosen in draws for d in chosen]
    assert_same_distribution(numbers, [s for params in expected for channel in params["sigmas"] for s in channel])
    assert all(len(set(three)) == 3 for three in numbers)
    check_channels(draws, theirs)


def test_low_resolution_is_distributed_as_nnunets(crop, nnunet):
    theirs = find(nnunet, SimulateLowResolutionTransform)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = [theirs.transform.get_parameters(image=crop[0])["scales"] for _ in range(1000)]
    draws = draw_many(LowResolution())
    assert_same_distribution(
        [d.numbers for chosen in draws for d in chosen], torch.cat([s[:, 0] for s in expected if len(s)])
    )
    check_channels(draws, theirs)


def check_channels(draws, theirs):
    """Half of three channels on average, each with its own numbers."""
    assert theirs.transform.p_per_channel == 0.5
    assert_probability([bool(chosen) for chosen in draws], theirs.apply_probability * (1 - 0.5**3))
    for channel in range(3):
        changed = [channel in [d.channel for d in chosen] for chosen in draws]
        assert_probability(changed, theirs.apply_probability * 0.5)
    assert all(len({d.numbers for d in chosen}) == len(chosen) for chosen in draws)


def test_slices_keep_their_resolution_as_nnunets():
    theirs = nnUNetTrainer.get_training_transforms(**arguments(do_dummy_2d_data_aug=True)).transforms
    assert find(theirs, SimulateLowResolutionTransform).transform.ignore_axes == (0,)
    stripes = torch.arange(12.0)[:, None, None].expand(12, 16, 16).clone()
    kept = stripes.clone()
    LowResolution(kept_axes=(0,)).apply(kept, (0.5,), noise())
    assert torch.equal(kept, stripes)
    LowResolution().apply(kept, (0.5,), noise())
    assert not torch.equal(kept, stripes)
