"""Estimate the hours of a training on one A100 from the operations of its network.

DKFZ trained STU-Nets from scratch for 1000 epochs on one A100 (40 GB): S in 10, B in 15 and L in 51 hours
(nnU-Net's documentation/resenc_presets.md). A constant time per iteration for loading and augmentation, plus a constant
rate of network operations, reproduces these three numbers to within 7 %. The same model estimates other trainings.
"""

from functools import cache

SECONDS_PER_ITERATION = 0.12
"""Constant time per iteration, for any network."""

TFLOPS = 75.0
"""Achieved rate of the network: 10^12 multiplications and additions per second, of a peak of 312 (bfloat16)."""

BATCH = 2
"""Images in a batch (section 4)."""

OPERATIONS_PER_MAC = 6
"""A multiplication and an addition, once forward and twice backward (for inputs and for weights)."""


def training_hours(network: str, iterations: int, classes: int = 105, channels: int = 1) -> float:
    """GPU hours of a training with batches of two patches of 128 x 128 x 128 voxels.

    Args:
        network: a name that `build_network` knows.
        iterations: number of optimiser steps.
        classes: of the dataset, including background.
        channels: of the image.
    """
    tera_operations = OPERATIONS_PER_MAC * BATCH * _macs(network, classes, channels) / 1e12
    return iterations * (SECONDS_PER_ITERATION + tera_operations / TFLOPS) / 3600


@cache
def _macs(network: str, classes: int, channels: int) -> int:
    from stunet.networks.cost import cost_of

    return cost_of(network, channels, classes).macs
