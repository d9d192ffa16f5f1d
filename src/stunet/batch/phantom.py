"""A phantom whose labels are known, and a tiny network that finds them exactly: for the self-test."""

import numpy as np
import torch

from stunet.imaging.volume import Volume
from stunet.networks.registry import build
from stunet.plans.network_spec import NetworkSpec
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from stunet.weights.model import Model
from stunet.weights.model_card import ModelCard

SPACING_MM = (3.0, 2.0, 1.5)
"""(Z, Y, X). Three numbers, so that mixed-up axes are noticed."""

AFFINE = np.array([[1.5, 0, 0, -20], [0, 2.0, 0, 35], [0, 0, 3.0, 700], [0, 0, 0, 1]])
"""Voxel (x, y, z) to RAS millimetres."""

LEVELS_HU = (-1000, 300, 900, 1500)
"""Intensity of each structure in the phantom; background is air."""

WINDOW = (8, 16, 16)
STRIDES = ((1, 1, 1), (2, 2, 2), (1, 2, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1))
WIDTH = 2


def phantom() -> tuple[Volume, np.ndarray]:
    """A scan without any symmetry, stored in RAS order, and the labels that `phantom_model` gives it.

    The model sees only each second voxel along each axis, the first of two, and gives both its label. So its labels
    change if it gets the scan in another orientation.

    Returns:
        The scan (1, 12, 20, 24) of int16, and its labels (Z, Y, X), uint8.
    """
    structures_ZYX = np.zeros((12, 20, 24), dtype=np.uint8)
    structures_ZYX[1:9, 2:15, 3:8] = 1
    structures_ZYX[2:11, 3:8, 11:22] = 2
    structures_ZYX[3:6, 5:8, 3:6] = 3
    structures_ZYX[7:10, 13:18, 17:23] = 3
    seen_ZYX = structures_ZYX[::2, ::2, ::2]
    labels_ZYX = seen_ZYX.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    levels = np.array(LEVELS_HU, dtype=np.int16)
    return Volume(levels[structures_ZYX][None], AFFINE), labels_ZYX


def phantom_model() -> Model:
    """An STU-Net whose weights were set by hand: it labels voxels by their intensity alone.

    All weights are 0, but for one path: down to half the resolution, up again, and to the head. Class k has the logit
    2 c t - c², the highest where its level c is the closest to the intensity t.
    """
    arguments = {"width": WIDTH, "depth": 1, "strides": [list(stride) for stride in STRIDES]}
    network = build(NetworkSpec("stunet", 1, len(LEVELS_HU), arguments)).eval()
    weights = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    for layer in ("encoder.stages.0.0.shortcut", "encoder.stages.1.0.shortcut", "decoder.upsamples.4.conv"):
        weights[f"{layer}.weight"][0, 0] = 1
    weights["decoder.stages.3.0.shortcut.weight"][0, 2 * WIDTH] = 1  # the skip, after the channels of the deeper stage
    weights["decoder.stages.4.0.shortcut.weight"][0, 0] = 1
    levels = torch.tensor([max(level, 0) / 1000 for level in LEVELS_HU])  # LeakyReLUs bring air to 0
    weights["decoder.seg_layers.4.weight"][:, 0, 0, 0, 0] = 2 * levels
    weights["decoder.seg_layers.4.bias"][:] = -(levels**2)
    network.load_state_dict(weights)
    normalization = ChannelNormalization("ct", 0.0, 1000.0, LEVELS_HU[0], LEVELS_HU[-1])
    plan = PreprocessingPlan("nnunet_v2", SPACING_MM, WINDOW, (normalization,), orientation="RAS")
    names = ("background", "cuboid", "bar", "pieces")
    return Model((network,), ModelCard("phantom", network.spec, plan, names, ("CT",)), "the self-test's model")
