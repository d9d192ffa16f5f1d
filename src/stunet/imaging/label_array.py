"""Arrays of labels: their counts, and the smallest type that holds them."""

import numpy as np


def count_labels(labels_ZYX: np.ndarray, size: int) -> np.ndarray:
    """Count the voxels of labels 0..size - 1: int64 (size,). Larger labels are ignored."""
    # slice by slice, because bincount needs 8 bytes per voxel
    counts = (np.bincount(labels_YX.ravel(), minlength=size)[:size] for labels_YX in labels_ZYX)
    return sum(counts, start=np.zeros(size, dtype=np.int64))


def label_dtype(labels_ZYX: np.ndarray) -> np.dtype:
    """The type for writing labels: uint8 if all fit, else uint16.

    Raises:
        ValueError: They are not integers from 0 to 65535.
    """
    if labels_ZYX.dtype.kind not in "ui":
        raise ValueError(f"labels must be integers, not {labels_ZYX.dtype}")
    if labels_ZYX.dtype == np.uint8 or not labels_ZYX.size:
        return np.dtype(np.uint8)
    low, high = int(labels_ZYX.min()), int(labels_ZYX.max())
    if low < 0 or high > 65535:
        raise ValueError(f"labels must lie in 0..65535, not {low}..{high}")
    return np.dtype(np.uint8 if high < 256 else np.uint16)
