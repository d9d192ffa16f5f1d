"""Tiny networks and models with random weights, and a plain implementation of the sliding window."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from stunet.inference.predictor import InferenceConfig
from stunet.inference.windows import gaussian_weight, window_starts
from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import STUNet
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from stunet.weights.model import Model
from stunet.weights.model_file import ModelCard, save_model

EXACT = InferenceConfig(backend="torch", precision="float32")
"""Reproducible random values on every machine."""

STRIDES = ((1, 1, 1), (2, 2, 2), (1, 2, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1))
"""Strides that allow windows of 8 x 16 x 16 voxels."""

WINDOW = (8, 16, 16)


def tiny_network(num_classes: int = 12, input_channels: int = 1, seed: int = 0) -> STUNet:
    """A `tiny` STU-Net with random weights and a scaled head, so that many classes appear."""
    torch.manual_seed(seed)
    network = build(network_spec("tiny", input_channels, num_classes, strides=STRIDES)).eval()
    torch.nn.init.normal_(network.head.weight)
    return network


@dataclass(frozen=True, eq=False)
class WholeImage:
    """A `PlaneSource` in memory; `array` is (C, Z, Y, X) float32."""

    array: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, Z, Y, X)."""
        return tuple(self.array.shape)

    def planes(self, start: int, stop: int) -> torch.Tensor:
        """A view."""
        return self.array[:, start:stop]


def plan(**changes: object) -> PreprocessingPlan:
    """nnU-Net v2 with z-scores, at 1 mm."""
    fields = {
        "convention": "nnunet_v2",
        "spacing": (1.0, 1.0, 1.0),
        "patch_size": WINDOW,
        "normalization": (ChannelNormalization("zscore"),),
    }
    return PreprocessingPlan(**{**fields, **changes})  # type: ignore[arg-type]


def card(network: STUNet, preprocessing: PreprocessingPlan) -> ModelCard:
    """The card of a tiny network."""
    return ModelCard(
        name="sample",
        network=network.spec,
        preprocessing=preprocessing,
        labels=("background", *(f"class_{label}" for label in range(1, network.num_classes))),
        channels=tuple(f"channel_{index}" for index in range(network.input_channels)),
        mirror_axes=(0, 2),
    )


def tiny_model(num_classes: int = 12, input_channels: int = 1, folds: int = 1, **changes: object) -> Model:
    """A model of tiny networks; `changes` are fields of its plan."""
    networks = tuple(tiny_network(num_classes, input_channels, seed) for seed in range(folds))
    changes = {"normalization": (ChannelNormalization("zscore"),) * input_channels, **changes}
    preprocessing = plan(**changes)
    return Model(networks, card(networks[0], preprocessing), "sample")


def save_tiny_model(path: Path) -> Path:
    """A tiny network with random weights and three classes, as a model file."""
    network = tiny_network(num_classes=3)
    save_model(path, network.state_dict(), card(network, plan()))
    return path


@torch.inference_mode()
def plain_logits(
    image_CZYX: torch.Tensor,
    networks: Sequence[STUNet],
    window_size: Sequence[int] = WINDOW,
    step: float = 0.5,
    mirror_axes: Sequence[Sequence[int]] = ((),),
) -> torch.Tensor:
    """Mean logits (K, Z, Y, X) over windows, mirrored copies and networks in float64, computed naively.

    `mirror_axes` lists every set of mirrored axes, including ().
    """
    shape = image_CZYX.shape[1:]
    missing = [max(window - size, 0) for window, size in zip(window_size, shape, strict=True)]
    before = [number // 2 for number in missing]
    pads = [(b, n - b) for b, n in zip(before, missing, strict=True)]
    padded = functional.pad(image_CZYX, [n for pair in reversed(pads) for n in pair])
    weight = gaussian_weight(window_size).double()
    total = torch.zeros(networks[0].num_classes, *padded.shape[1:], dtype=torch.float64)
    weights = torch.zeros(padded.shape[1:], dtype=torch.float64)
    for start in product(*window_starts(padded.shape[1:], window_size, step)):
        place = tuple(slice(s, s + n) for s, n in zip(start, window_size, strict=True))
        weights[place] += weight
        window = padded[(slice(None), *place)][None]
        for network, axes in product(networks, mirror_axes):
            dimensions = [axis + 2 for axis in axes]
            logits = network(window.flip(dimensions)).flip(dimensions)[0].double()
            total[(slice(None), *place)] += weight * logits / (len(networks) * len(mirror_axes))
    inside = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    return (total / weights)[(slice(None), *inside)]


def assert_labels_follow(labels: np.ndarray, logits_KZYX: np.ndarray, tolerance: float) -> None:
    """Labels must be the highest class, except where it leads by less than `tolerance` times the logits' spread."""
    chosen = np.take_along_axis(logits_KZYX, labels[None].astype(np.int64), axis=0)[0]
    behind = (logits_KZYX.max(axis=0) - chosen) / logits_KZYX.std()
    print(f"{(behind > 0).sum()} of {labels.size} voxels differ, by {behind.max():.2g} of the logits' spread at most")
    assert behind.max() <= tolerance
