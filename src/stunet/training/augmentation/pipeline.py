"""All transforms of a training sample, in nnU-Net's order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from stunet.training.augmentation.channels import ChannelDraw, ChannelTransform, draw_channels
from stunet.training.augmentation.elastic import ElasticDeformation
from stunet.training.augmentation.intensity import (
    AdditiveBrightness,
    Contrast,
    Gamma,
    GaussianNoise,
    MultiplicativeBrightness,
)
from stunet.training.augmentation.resolution import GaussianBlur, LowResolution
from stunet.training.augmentation.spatial import SpatialDraw, SpatialTransform
from stunet.training.augmentation.targets import Region, TargetTransform

SEED_LIMIT = 2**63 - 1


@dataclass(frozen=True)
class Extras:
    """Transforms on top of nnU-Net's.

    Attributes:
        elastic: elastic deformation, together with rotation and scaling.
        additive_brightness: a constant added to a channel, after multiplicative brightness.
    """

    elastic: ElasticDeformation | None = None
    additive_brightness: AdditiveBrightness | None = None


NNUNET = Extras()
"""Only nnU-Net's transforms."""

PAPER = Extras(ElasticDeformation(), AdditiveBrightness())
"""All transforms that the paper names (section 4). nnU-Net already has gamma, rotation, scaling and mirroring."""


@dataclass(frozen=True)
class SampleDraw:
    """Everything drawn for one sample.

    Attributes:
        spatial: rotation, scaling, deformation.
        channels: for each transform in the augmentation's `channel_transforms`, the channels it changes.
        mirrored_axes: a subset of 0, 1, 2 (Z, Y, X).
        noise_seed: seeds the random values per voxel.
    """

    spatial: SpatialDraw
    channels: tuple[list[ChannelDraw], ...]
    mirrored_axes: tuple[int, ...]
    noise_seed: int


class DeviceAugmentation:
    """nnU-Net 2.8's training transforms for a batch, on any device but MPS.

    Samples are independent: the result for a sample does not depend on its batch. Nothing synchronises with the device.

    Args:
        patch_size: of the result, (Z, Y, X).
        rotation_for_DA: the range of angles, in radians.
        deep_supervision_scales: one triple per output, or None.
        mirror_axes: a subset of 0, 1, 2, or None.
        do_dummy_2d_data_aug: rotate and scale slices in-plane only.
        use_mask_for_norm: for each channel, whether it is set to 0 outside the mask (where the label is negative).
        regions: the labels that make up each region of the dataset, or None.
        ignore_label: becomes one more region if the dataset has regions.
        extras: transforms on top of nnU-Net's.

    Raises:
        ValueError: the patch does not have three axes.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        rotation_for_DA: tuple[float, float],
        deep_supervision_scales: Sequence[Sequence[float]] | None,
        mirror_axes: Sequence[int] | None,
        do_dummy_2d_data_aug: bool,
        *,
        use_mask_for_norm: Sequence[bool] | None = None,
        regions: Sequence[Region] | None = None,
        ignore_label: int | None = None,
        extras: Extras = NNUNET,
    ):
        if len(patch_size) != 3:
            raise ValueError(f"A patch has three axes, got {tuple(patch_size)}.")
        self.patch_size = tuple(int(length) for length in patch_size)
        self.in_slices = do_dummy_2d_data_aug
        resampled = self.patch_size[1:] if do_dummy_2d_data_aug else self.patch_size
        self.spatial = SpatialTransform(resampled, rotation_for_DA, elastic=extras.elastic)
        self.channel_transforms = channel_transforms(do_dummy_2d_data_aug, extras)
        self.mirror_axes = tuple(mirror_axes or ())
        self.masked_channels = [channel for channel, masked in enumerate(use_mask_for_norm or ()) if masked]
        self.targets = TargetTransform(deep_supervision_scales, regions, ignore_label)

    @staticmethod
    def refusal(patch_size: Sequence[int], is_cascaded: bool, device: torch.device) -> str | None:
        """Why a training must use nnU-Net's own transforms; None if this class can replace them."""
        if is_cascaded:
            return "The segmentation of a cascade's previous stage is augmented by nnU-Net's own transforms only."
        if len(patch_size) != 3:
            return "Patches of two axes are augmented by nnU-Net's own transforms only."
        if device.type == "mps":
            return "PyTorch cannot resample volumes on MPS, so nnU-Net's own transforms do it on the CPU."
        return None

    def draw(self, seed: int, channels: int) -> SampleDraw:
        """Draw everything for the sample with this seed: the same on every device and in every batch."""
        random = np.random.default_rng(seed)
        return SampleDraw(
            noise_seed=int(random.integers(SEED_LIMIT)),
            spatial=self.spatial.draw(random),
            channels=tuple(draw_channels(transform, random, channels) for transform in self.channel_transforms),
            mirrored_axes=tuple(axis for axis in self.mirror_axes if random.random() < 0.5),
        )

    @torch.no_grad()
    def __call__(
        self, image_BCZYX: torch.Tensor, labels_B1ZYX: torch.Tensor, seeds: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor | list[torch.Tensor]]:
        """Augmented images (B, C, *patch_size), float32, and what `TargetTransform` returns for their labels.

        Args:
            image_BCZYX: float32, crops at least as large as the patch. They are not changed.
            labels_B1ZYX: a signed integer type, on the same device; -1 outside the image.
            seeds: one per sample, not negative.

        Raises:
            ValueError: shapes, types or the number of seeds do not fit.
        """
        self._check(image_BCZYX, labels_B1ZYX, seeds)
        image = image_BCZYX.new_empty((*image_BCZYX.shape[:2], *self.patch_size))
        labels = labels_B1ZYX.new_empty((len(seeds), 1, *self.patch_size))
        with torch.autocast(image.device.type, enabled=False):
            for sample, seed in enumerate(seeds):
                draw = self.draw(seed, image.shape[1])
                noise = torch.Generator(image.device).manual_seed(draw.noise_seed)
                patch_CZYX, labels_1ZYX = self._resample(image_BCZYX[sample], labels_B1ZYX[sample], draw.spatial, noise)
                image[sample] = patch_CZYX
                self._change_channels(image[sample], draw, noise)
                labels[sample] = labels_1ZYX
                _mirror(image[sample], labels[sample], draw.mirrored_axes)
            for channel in self.masked_channels:
                image[:, channel].masked_fill_(labels[:, 0] < 0, 0)
            return image, self.targets(labels)

    def _resample(
        self, image_CZYX: torch.Tensor, labels_1ZYX: torch.Tensor, draw: SpatialDraw, noise: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.in_slices:
            return self.spatial.apply(image_CZYX, labels_1ZYX, draw, noise)
        image, labels = self.spatial.apply(image_CZYX.flatten(0, 1), labels_1ZYX.flatten(0, 1), draw, noise)
        return image.unflatten(0, image_CZYX.shape[:2]), labels[None]

    def _change_channels(self, image_CZYX: torch.Tensor, draw: SampleDraw, noise: torch.Generator) -> None:
        for transform, draws in zip(self.channel_transforms, draw.channels, strict=True):
            for drawn in draws:
                transform.apply(image_CZYX[drawn.channel], drawn.numbers, noise)

    def _check(self, image_BCZYX: torch.Tensor, labels_B1ZYX: torch.Tensor, seeds: Sequence[int]) -> None:
        batch, *size = image_BCZYX.shape[0], *image_BCZYX.shape[2:]
        if labels_B1ZYX.shape != (batch, 1, *size) or len(seeds) != batch:
            raise ValueError(
                f"Images {tuple(image_BCZYX.shape)} need labels {(batch, 1, *size)} and {batch} seeds, got labels "
                f"{tuple(labels_B1ZYX.shape)} and {len(seeds)} seeds."
            )
        if image_BCZYX.dtype != torch.float32 or not _is_signed_integer(labels_B1ZYX.dtype):
            raise ValueError(f"Expected float32 and a signed integer, got {image_BCZYX.dtype}, {labels_B1ZYX.dtype}.")
        if any(length < wanted for length, wanted in zip(size, self.patch_size, strict=True)):
            raise ValueError(f"Crops of {tuple(size)} are too small for patches of {self.patch_size}.")
        if self.in_slices and size[0] != self.patch_size[0]:
            raise ValueError(f"Slices are not resampled across planes: expected {self.patch_size[0]}, got {size[0]}.")


def _mirror(image_CZYX: torch.Tensor, labels_1ZYX: torch.Tensor, axes: tuple[int, ...]) -> None:
    if axes:
        behind_channels = [axis + 1 for axis in axes]
        image_CZYX.copy_(image_CZYX.flip(behind_channels))
        labels_1ZYX.copy_(labels_1ZYX.flip(behind_channels))


def _is_signed_integer(dtype: torch.dtype) -> bool:
    return dtype.is_signed and not dtype.is_floating_point and not dtype.is_complex


def channel_transforms(in_slices: bool, extras: Extras) -> tuple[ChannelTransform, ...]:
    """nnU-Net's channel transforms in its order, with the extras where nnU-Net 1.7 puts them."""
    additive = [extras.additive_brightness] if extras.additive_brightness else []
    return (
        GaussianNoise(),
        GaussianBlur(),
        MultiplicativeBrightness(),
        *additive,
        Contrast(),
        LowResolution(kept_axes=(0,) if in_slices else ()),
        Gamma(probability=0.1, inverted=True),
        Gamma(probability=0.3, inverted=False),
    )
