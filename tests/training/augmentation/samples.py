"""Sizes and arguments that the tests of the augmentation share."""

import math
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest, ks_2samp

CROP = (44, 60, 44)
PATCH = (24, 32, 24)
SCALES = [[1, 1, 1], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]]
ROTATION = (-math.pi / 6, math.pi / 6)

SMALLEST_P = 1e-3
"""Draws of two samplers that agree differ more than theirs once in a thousand seeds; the seeds are fixed."""


def arguments(**changes: Any) -> dict[str, Any]:
    """For nnU-Net's `get_training_transforms` and for ours."""
    plain = {
        "patch_size": PATCH,
        "rotation_for_DA": ROTATION,
        "deep_supervision_scales": SCALES,
        "mirror_axes": (0, 1, 2),
        "do_dummy_2d_data_aug": False,
    }
    return {**plain, **changes}


def assert_same_distribution(ours: Any, theirs: Any) -> None:
    """Kolmogorov and Smirnov cannot tell two samples apart."""
    ours, theirs = (np.asarray(sample, np.float64).ravel() for sample in (ours, theirs))
    assert min(len(ours), len(theirs)) >= 100
    assert ks_2samp(ours, theirs).pvalue > SMALLEST_P


def assert_probability(happened: Any, probability: float) -> None:
    """So many of so many is what this probability makes plausible."""
    happened = np.asarray(happened, bool).ravel()
    assert binomtest(int(happened.sum()), len(happened), probability).pvalue > SMALLEST_P


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
