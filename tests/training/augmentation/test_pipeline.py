"""The whole augmentation against nnU-Net's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from stunet.training.augmentation.elastic import ElasticDeformation
from stunet.training.augmentation.intensity import AdditiveBrightness, GaussianNoise
from stunet.training.augmentation.pipeline import NNUNET, PAPER, DeviceAugmentation, Extras
from stunet.training.augmentation.resample_labels import resample_labels
from tests.training.augmentation.samples import (
    CROP,
    PATCH,
    SCALES,
    arguments,
    assert_probability,
    assert_same_distribution,
    noise,
)

CASES = {
    "labels": {},
    "regions": {"regions": ((1, 2), 2), "ignore_label": 3},
    "no mirror, no deep supervision": {"mirror_axes": None, "deep_supervision_scales": None},
    "slices": {"do_dummy_2d_data_aug": True, "patch_size": (CROP[0], *PATCH[1:])},
    "mask": {"use_mask_for_norm": [False, True]},
}


def batch_of(crop, number):
    return tuple(part[None].expand(number, *part.shape).clone() for part in crop)


def as_list(target):
    return target if isinstance(target, list) else [target]


def statistics(image, target):
    """To five decimals: patches that nothing changed must count as equal."""
    gradients = [image.diff(dim=axis).square().mean() for axis in (-1, -2, -3)]
    foreground = (as_list(target)[0] > 0).float().mean()
    numbers = (image[0].mean(), image[0].std(), image[1].mean(), image[1].std(), sum(gradients), foreground)
    return [round(float(number), 5) for number in numbers]


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_results_have_nnunets_shapes_and_types(crop, changes):
    theirs = nnUNetTrainer.get_training_transforms(**arguments(**changes))
    expected = theirs(image=crop[0].clone(), segmentation=crop[1].clone())
    image, target = DeviceAugmentation(**arguments(**changes))(*batch_of(crop, 3), [1, 2, 3])
    assert image.shape == (3, *expected["image"].shape)
    assert image.dtype == torch.float32
    assert isinstance(target, list) == isinstance(expected["segmentation"], list)
    for ours, other in zip(as_list(target), as_list(expected["segmentation"]), strict=True):
        assert ours.shape == (3, *other.shape)
        assert ours.dtype == other.dtype
        assert ours.min() >= 0


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_patches_are_distributed_as_nnunets(crop, changes):
    """Mean, deviation, gradient energy and part of foreground of the same crop, augmented 500 times by each."""
    theirs = nnUNetTrainer.get_training_transforms(**arguments(**changes))
    np.random.seed(1)
    torch.manual_seed(1)
    expected = []
    for _ in range(500):
        sample = theirs(image=crop[0].clone(), segmentation=crop[1].clone())
        expected.append(statistics(sample["image"], sample["segmentation"]))
    augmentation = DeviceAugmentation(**arguments(**changes))
    ours = []
    for seed in range(500):
        image, target = augmentation(*batch_of(crop, 1), [seed])
        ours.append(statistics(image[0], [level[0] for level in as_list(target)]))
    for mine, other in zip(zip(*ours, strict=True), zip(*expected, strict=True), strict=True):
        assert_same_distribution(mine, other)


def test_order_and_probabilities_are_nnunets(nnunet):
    theirs = [(type(t.transform).__name__, t.apply_probability) for t in nnunet if isinstance(t, RandomTransform)]
    names = {
        "GaussianNoise": "GaussianNoiseTransform",
        "GaussianBlur": "GaussianBlurTransform",
        "MultiplicativeBrightness": "MultiplicativeBrightnessTransform",
        "Contrast": "ContrastTransform",
        "LowResolution": "SimulateLowResolutionTransform",
        "Gamma": "GammaTransform",
    }
    ours = DeviceAugmentation(**arguments()).channel_transforms
    assert [(names[type(t).__name__], t.probability) for t in ours] == theirs


def test_mirroring_is_each_axis_by_half():
    augmentation = DeviceAugmentation(**arguments(mirror_axes=(0, 2)))
    draws = [augmentation.draw(seed, 1).mirrored_axes for seed in range(2000)]
    for axis in (0, 2):
        assert_probability([axis in axes for axes in draws], 0.5)
    assert_probability([axes == (0, 2) for axes in draws], 0.25)
    assert not any(1 in axes for axes in draws)


def test_image_and_labels_are_mirrored_together(crop):
    """An image that is its own label map stays so."""
    _, labels = crop
    augmentation = DeviceAugmentation(**arguments(rotation_for_DA=(0.0, 0.0)))
    augmentation.spatial = replace(augmentation.spatial, rotation_probability=0, scaling_probability=0)
    augmentation.channel_transforms = ()
    seeds = range(8)
    assert len({augmentation.draw(seed, 1).mirrored_axes for seed in seeds}) > 4
    image, target = augmentation(*batch_of((labels.float(), labels), 8), seeds)
    assert torch.equal(image.clamp(min=0), target[0].float())


@pytest.mark.parametrize("extras", [NNUNET, PAPER], ids=["nnU-Net", "paper"])
def test_a_sample_is_the_same_in_every_batch(crop, extras):
    augmentation = DeviceAugmentation(**arguments(), extras=extras)
    images, labels = batch_of(crop, 4)
    images += torch.arange(4.0)[:, None, None, None, None]
    before = images.clone(), labels.clone()
    together, targets = augmentation(images, labels, [5, 6, 7, 8])
    for sample, seed in enumerate([5, 6, 7, 8]):
        alone, target = augmentation(images[sample, None], labels[sample, None], [seed])
        assert torch.equal(alone[0], together[sample])
        assert all(torch.equal(one[0], all_[sample]) for one, all_ in zip(target, targets, strict=True))
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def test_a_seed_decides_all(crop):
    augmentation = DeviceAugmentation(**arguments(), extras=PAPER)
    first, again, other = (augmentation(*batch_of(crop, 3), seeds) for seeds in ([1, 2, 3], [1, 2, 3], [4, 5, 6]))
    assert torch.equal(first[0], again[0])
    assert all(torch.equal(a, b) for a, b in zip(first[1], again[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first[0], other[0], strict=True))


def test_each_sample_has_its_own_noise():
    augmentation = DeviceAugmentation(**arguments())
    augmentation.channel_transforms = (GaussianNoise(probability=1, deviation=(0.1, 0.1)),)
    image, _ = augmentation(torch.zeros(3, 1, *CROP), torch.zeros(3, 1, *CROP).short(), [0, 1, 2])
    assert (torch.corrcoef(image.flatten(1)) - torch.eye(3)).abs().max() < 0.03


def test_masked_channels_are_zero_outside(crop):
    image, _ = crop
    labels = torch.where(torch.arange(CROP[2]) < CROP[2] // 2, -1, 1).short().expand(1, *CROP).clone()
    plain = DeviceAugmentation(**arguments(mirror_axes=None))
    plain.spatial = replace(plain.spatial, rotation_probability=0, scaling_probability=0)
    masked = DeviceAugmentation(**arguments(mirror_axes=None, use_mask_for_norm=[False, True]))
    masked.spatial = plain.spatial
    with_mask, target = masked(*batch_of((image, labels), 1), [3])
    without, _ = plain(*batch_of((image, labels), 1), [3])
    half = PATCH[2] // 2
    assert torch.equal(with_mask[:, 0], without[:, 0])
    assert torch.equal(with_mask[:, 1, ..., half:], without[:, 1, ..., half:])
    assert not with_mask[:, 1, ..., :half].any()
    assert without[:, 1, ..., :half].any()
    assert not target[0][..., :half].any()


def test_the_papers_extras_are_where_nnunet_1_has_them():
    augmentation = DeviceAugmentation(**arguments(), extras=PAPER)
    names = [type(t).__name__ for t in augmentation.channel_transforms]
    assert names[2:5] == ["MultiplicativeBrightness", "AdditiveBrightness", "Contrast"]
    deformed = [augmentation.draw(seed, 1).spatial.elastic is not None for seed in range(2000)]
    assert_probability(deformed, 0.2)


def test_extras_change_the_patch(crop):
    batch = batch_of(crop, 1)
    plain = DeviceAugmentation(**arguments())
    brighter = DeviceAugmentation(
        **arguments(),
        extras=Extras(
            additive_brightness=AdditiveBrightness(probability=1.0, mean=5.0, deviation=0.0, channel_probability=1.0)
        ),
    )
    deformed = DeviceAugmentation(**arguments(), extras=Extras(elastic=ElasticDeformation(1.0, (4, 4), (300, 300))))
    for augmentation in (plain, brighter, deformed):
        augmentation.channel_transforms = tuple(
            t for t in augmentation.channel_transforms if isinstance(t, AdditiveBrightness)
        )
        augmentation.mirror_axes = ()
        augmentation.spatial = replace(augmentation.spatial, rotation_probability=0, scaling_probability=0)
    image, target = plain(*batch, [0])
    torch.testing.assert_close(brighter(*batch, [0])[0], image + 5)
    moved, moved_target = deformed(*batch, [0])
    assert not torch.equal(moved, image)
    both, either = ((moved_target[0] > 0) & (target[0] > 0)).sum(), ((moved_target[0] > 0) | (target[0] > 0)).sum()
    assert 0.3 < both / either < 0.99


@pytest.mark.parametrize(
    ("patch", "cascaded", "device", "word"),
    [(PATCH, True, "cpu", "cascade"), (PATCH[1:], False, "cpu", "two axes"), (PATCH, False, "mps", "MPS")],
)
def test_what_it_cannot_do_is_said(patch, cascaded, device, word):
    assert word in DeviceAugmentation.refusal(patch, cascaded, torch.device(device))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_it_can_do_is_not_refused(device):
    assert DeviceAugmentation.refusal(PATCH, False, torch.device(device)) is None


@pytest.mark.parametrize(
    ("image", "labels", "seeds", "word"),
    [
        (torch.zeros(2, 1, *CROP), torch.zeros(2, 1, *CROP).short(), [1], "seeds"),
        (torch.zeros(1, 1, *CROP), torch.zeros(1, 2, *CROP).short(), [1], "labels"),
        (torch.zeros(1, 1, *CROP), torch.zeros(1, 1, *CROP), [1], "integer"),
        (torch.zeros(1, 1, *CROP).half(), torch.zeros(1, 1, *CROP).short(), [1], "float32"),
        (torch.zeros(1, 1, 20, 40, 40), torch.zeros(1, 1, 20, 40, 40).short(), [1], "too small"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(image, labels, seeds, word):
    with pytest.raises(ValueError, match=word):
        DeviceAugmentation(**arguments())(image, labels, seeds)


def test_slices_that_would_be_cut_are_refused(crop):
    with pytest.raises(ValueError, match="Slices"):
        DeviceAugmentation(**arguments(do_dummy_2d_data_aug=True))(*batch_of(crop, 1), [1])


def test_nothing_waits_for_the_device(crop):
    """Tensors without values, on which all that asks for one raises."""
    image, labels = (part.to("meta") for part in crop)
    augmentation = DeviceAugmentation(**arguments())
    for transform in augmentation.channel_transforms[1:]:  # noise has no generator there
        transform.apply(image[0], transform.draw(np.random.default_rng(0)), noise())
    resampled = resample_labels(labels, torch.zeros(*PATCH, 3, device="meta"), -1)
    assert [target.shape[2:] for target in augmentation.targets(resampled[None])] == [
        tuple(int(n * part) for n, part in zip(PATCH, scale, strict=True)) for scale in SCALES
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_a_gpu_gives_the_same_to_rounding(crop, changes):
    """All but the noise, which a GPU draws otherwise."""
    augmentation = DeviceAugmentation(**arguments(**changes))
    augmentation.channel_transforms = augmentation.channel_transforms[1:]
    batch = batch_of(crop, 8)
    image, target = augmentation(*batch, range(8))
    batch = [part.cuda() for part in batch]
    torch.cuda.set_sync_debug_mode("error")  # nothing waits for the device
    on_gpu, target_on_gpu = augmentation(*batch, range(8))
    torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(on_gpu.cpu(), image, atol=1e-4, rtol=0)
    for one, other in zip(as_list(target_on_gpu), as_list(target), strict=True):
        assert (one.cpu() == other).float().mean() > 0.9999
