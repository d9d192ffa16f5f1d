"""A model with known answers on real scans: it labels each voxel with the nearest of some levels of intensity."""

from collections.abc import Sequence
from pathlib import Path

import torch

from stunet.networks.stunet import STUNet
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from stunet.weights.model_file import ModelCard, save_model

STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 1, 1), (1, 1, 1))

WINDOW = (16, 64, 64)


def level_network(levels: Sequence[float], input_channels: int = 1) -> STUNet:
    """An STU-Net whose class k is nearest to `levels[k]` in the last channel; levels rise.

    The image goes through the shortcuts of the first and the last stage alone; all else is zero. It is raised by the
    lowest level, for a LeakyReLU leaves alone what is not negative. For an intensity c, the nearest level v is that
    with the largest 2 v c - v^2, which is what the head computes.
    """
    network = STUNet(input_channels, len(levels), width=1, strides=STRIDES).eval()
    first, last = network.encoder.stages[0][0].shortcut, network.decoder.stages[-1][0].shortcut
    head = network.decoder.seg_layers[-1]
    values = torch.tensor([float(level - levels[0]) for level in levels])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        first.weight[0, -1], first.bias[0] = 1.0, -float(levels[0])
        last.weight[0, -1] = 1.0  # behind the features from below come those of the first stage
        head.weight[:, 0, 0, 0, 0], head.bias[:] = 2 * values, -(values**2)
    return network


def save_level_model(
    path: Path, levels: Sequence[float], names: Sequence[str], channels: Sequence[str], spacing: Sequence[float]
) -> Path:
    """Write such a model. `names` are those of the labels, background first; `spacing` is (z, y, x) in mm."""
    network = level_network(levels, len(channels))
    as_it_is = ChannelNormalization("none")
    plan = PreprocessingPlan("nnunet_v2", tuple(spacing), WINDOW, (as_it_is,) * len(channels))
    card = ModelCard(path.stem, network.spec, plan, tuple(names), tuple(channels), mirror_axes=())
    save_model(path, network.state_dict(), card)
    return path
