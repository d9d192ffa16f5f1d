"""A large result with fewer voxels. A browser shows it at once, and loads the whole meanwhile."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np

from stunet.imaging.formats.nifti_write import write_nifti_image
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation

MOST_VOXELS = 8_000_000
"""The most voxels of an overview: WebGL in software draws them in less than a second (`bench/page.py`)."""

OVERVIEW_LABELS, OVERVIEW_SCAN = "overview_labels.nii.gz", "overview_scan.nii.gz"


def overview_step(shape: Sequence[int]) -> int:
    """An overview keeps every n-th voxel along each axis; this is n. It is 1 if the result itself is small enough."""
    return next(step for step in count(1) if math.prod(shape) <= MOST_VOXELS * step**3)


def save_overview(segmentation: Segmentation, folder: Path, step: int) -> None:
    """Write scan and labels with every `step`th voxel along each axis, each where it was."""
    kept = (slice(None, None, step),) * 3
    affine = segmentation.scan.affine @ np.diag([step, step, step, 1])
    scan = Volume(np.ascontiguousarray(segmentation.scan.array[0][kept])[None], affine)
    labels = np.ascontiguousarray(segmentation.labels[kept])
    write_nifti_image(scan.array[0], scan, folder / OVERVIEW_SCAN)
    replace(segmentation, labels=labels, scan=scan).save(folder / OVERVIEW_LABELS)
