"""Each transform against batchgeneratorsv2's own, on a real image and with the same numbers."""

import numpy as np
import pytest
import torch
from batchgenerators.augmentations.color_augmentations import augment_brightness_additive
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from stunet.training.augmentation.channels import draw_channels
from stunet.training.augmentation.intensity import (
    AdditiveBrightness,
    Contrast,
    Gamma,
    GaussianNoise,
    MultiplicativeBrightness,
)
from tests.training.augmentation.samples import assert_probability, assert_same_distribution, noise

FIRST = torch.tensor([0])


def ours(transform, image_CZYX, numbers):
    changed = image_CZYX[0].clone()
    transform.apply(changed, numbers, noise())
    return changed


def find(nnunet, kind, number=0):
    """nnU-Net's transform of this kind, with its probability."""
    return [t for t in nnunet if isinstance(t, RandomTransform) and isinstance(t.transform, kind)][number]


def draw_many(transform, channels=3, samples=4000):
    random = np.random.default_rng(0)
    return [draw_channels(transform, random, channels) for _ in range(samples)]


def test_noise_equals_nnunets(crop, nnunet):
    image, _ = crop
    torch.manual_seed(0)
    params = {"num_apply": 1, "apply_idx": FIRST, "sigmas": 0.07}
    expected = find(nnunet, GaussianNoiseTransform).transform._apply_to_image(image.clone(), **params)
    torch.testing.assert_close(ours(GaussianNoise(), image, (0.07,)), expected[0], atol=1e-6, rtol=0)


def test_multiplicative_brightness_equals_nnunets(crop, nnunet):
    image, _ = crop
    params = {"apply_to_channel": FIRST, "multipliers": torch.tensor([1.2])}
    expected = find(nnunet, MultiplicativeBrightnessTransform).transform._apply_to_image(image.clone(), **params)
    torch.testing.assert_close(ours(MultiplicativeBrightness(), image, (1.2,)), expected[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("factor", [0.75, 1.2])
def test_contrast_equals_nnunets(crop, nnunet, factor):
    image, _ = crop
    params = {"apply_to_channel": FIRST, "multipliers": torch.tensor([factor])}
    expected = find(nnunet, ContrastTransform).transform._apply_to_image(image.clone(), **params)
    torch.testing.assert_close(ours(Contrast(), image, (factor,)), expected[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("inverted", [True, False])
@pytest.mark.parametrize("exponent", [0.7, 1.4])
def test_gamma_equals_nnunets(crop, nnunet, inverted, exponent):
    image, _ = crop
    theirs = find(nnunet, GammaTransform, 0 if inverted else 1).transform
    assert (theirs.p_invert_image, theirs.p_retain_stats) == (inverted, 1)
    params = {
        "apply_to_channel": FIRST,
        "retain_stats": torch.tensor([True]),
        "invert_image": torch.tensor([inverted]),
        "gamma": torch.tensor([exponent]),
    }
    expected = theirs._apply_to_image(image.clone(), **params)
    torch.testing.assert_close(ours(Gamma(0.3, inverted=inverted), image, (exponent,)), expected[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("transform", [Contrast(), Gamma(0.1, inverted=True), Gamma(0.3, inverted=False)])
def test_an_image_of_one_value_stays_finite(transform):
    changed = ours(transform, torch.full((1, 8, 8, 8), 3.0), (1.3,))
    torch.testing.assert_close(changed, torch.full((8, 8, 8), 3.0))


@pytest.mark.parametrize(
    ("transform", "kind", "number", "name"),
    [
        (MultiplicativeBrightness(), MultiplicativeBrightnessTransform, 0, "multipliers"),
        (Contrast(), ContrastTransform, 0, "multipliers"),
        (Gamma(0.1, inverted=True), GammaTransform, 0, "gamma"),
        (Gamma(0.3, inverted=False), GammaTransform, 1, "gamma"),
    ],
)
def test_factors_are_distributed_as_nnunets(crop, nnunet, transform, kind, number, name):
    theirs = find(nnunet, kind, number)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = [theirs.transform.get_parameters(image=crop[0])[name] for _ in range(2000)]
    draws = draw_many(transform)
    assert_same_distribution([d.numbers[0] for chosen in draws for d in chosen], torch.cat(expected))
    assert transform.probability == theirs.apply_probability
    assert_probability([bool(chosen) for chosen in draws], theirs.apply_probability)
    assert all([d.channel for d in chosen] in ([], [0, 1, 2]) for chosen in draws)
    assert all(len({d.numbers for d in chosen}) == len(chosen) for chosen in draws)  # each channel its own


def test_noise_is_distributed_as_nnunets(crop, nnunet):
    theirs = find(nnunet, GaussianNoiseTransform)
    np.random.seed(0)
    expected = [theirs.transform.get_parameters(image=crop[0])["sigmas"] for _ in range(2000)]
    draws = draw_many(GaussianNoise())
    assert_same_distribution([chosen[0].numbers for chosen in draws if chosen], expected)
    assert GaussianNoise().probability == theirs.apply_probability
    assert_probability([bool(chosen) for chosen in draws], theirs.apply_probability)
    assert all(len({d.numbers for d in chosen}) <= 1 for chosen in draws)  # one deviation ...
    generator = noise()
    first, second = torch.zeros(20, 20, 20), torch.zeros(20, 20, 20)
    for channel in (first, second):
        GaussianNoise().apply(channel, (0.05,), generator)
    assert abs(float(torch.corrcoef(torch.stack([first.ravel(), second.ravel()]))[0, 1])) < 0.05  # ... other noise
    assert_same_distribution(first, np.random.default_rng(1).normal(0, 0.05, 8000))


def test_additive_brightness_is_nnunet_1s():
    """p 0.15 for a sample, 0.5 for a channel, normal with deviation 0.1: what nnU-Net 1.7 does where it is asked to."""
    np.random.seed(0)
    shifts = np.concatenate([augment_brightness_additive(np.zeros((3, 1)), 0, 0.1, True, 0.5) for _ in range(2000)])
    draws = draw_many(AdditiveBrightness())
    chosen = [sample for sample in draws if sample]
    assert_same_distribution([d.numbers for sample in chosen for d in sample], shifts[shifts != 0])
    assert_probability([bool(sample) for sample in draws], 0.15 * (1 - 0.5**3))
    counts = np.bincount([len(sample) for sample in chosen], minlength=4)
    assert_probability(np.repeat([True, False], [counts[3], counts[1] + counts[2]]), (1 / 8) / (7 / 8))


def test_additive_brightness_adds():
    image = torch.arange(8.0).view(1, 2, 2, 2)
    assert torch.equal(ours(AdditiveBrightness(), image, (0.25,)), image[0] + 0.25)
