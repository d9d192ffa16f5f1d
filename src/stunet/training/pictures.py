"""A picture of what a network has learnt so far: a patch of a validation case, the reference and the prediction."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context, rcParamsDefault
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from stunet.files import replacing

PICTURE_NAME = "validation_patch.png"

SHADES = (1, 99)
"""Percentiles of the image that become black and white."""

COLOURS = "gist_rainbow"
"""Of labels."""

DIFFERENT = ListedColormap(["orange"])
"""Of voxels whose labels differ."""


def draw_patch(
    path: Path, title: str, image_ZYX: np.ndarray, reference_ZYX: np.ndarray, prediction_ZYX: np.ndarray
) -> None:
    """Write a PNG of the slice with most foreground: image, reference, prediction, and where the two differ.

    Args:
        path: of the file.
        title: above the picture.
        image_ZYX: intensities.
        reference_ZYX: labels, 0 for background.
        prediction_ZYX: labels, 0 for background.
    """
    z = fullest_slice(reference_ZYX)
    image, reference, prediction = image_ZYX[z], reference_ZYX[z], prediction_ZYX[z]
    highest = max(1, int(reference_ZYX.max()), int(prediction_ZYX.max()))
    shown: list[tuple[str, np.ndarray | None, str | Colormap, int]] = [
        ("image", None, COLOURS, highest),
        ("reference", reference, COLOURS, highest),
        ("prediction", prediction, COLOURS, highest),
        ("different", (prediction != reference).astype(int), DIFFERENT, 1),
    ]
    low, high = np.percentile(image, SHADES)
    rows, columns = image.shape
    with rc_context(rcParamsDefault):  # nnU-Net draws its curves in letters two and a half times as large
        figure = Figure(figsize=(12, min(9.0, 3 * rows / columns) + 0.8), layout="constrained")
        figure.suptitle(f"{title}, slice {z} of {len(image_ZYX)}")
        for axis, (name, labels, colours, most) in zip(figure.subplots(1, 4), shown, strict=True):
            axis.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
            if labels is not None:
                marked = np.ma.masked_equal(labels, 0)
                axis.imshow(marked, cmap=colours, vmin=0, vmax=most, alpha=0.6, interpolation="nearest")
            axis.set_title(name)
            axis.set_axis_off()
        with replacing(path) as temporary:
            FigureCanvasAgg(figure)
            figure.savefig(temporary, format="png", dpi=100)


def fullest_slice(labels_ZYX: np.ndarray) -> int:
    """The slice along Z with most foreground; the middle one where there is none.

    >>> fullest_slice(np.array([[[0]], [[0]], [[2]], [[0]]])), fullest_slice(np.zeros((5, 2, 2)))
    (2, 2)
    """
    per_slice = (labels_ZYX > 0).sum(axis=(1, 2))
    return int(per_slice.argmax()) if per_slice.any() else len(labels_ZYX) // 2


def highest_resolution(scales: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """The first of the outputs, or of the targets, where there is deep supervision."""
    return scales if isinstance(scales, torch.Tensor) else scales[0]


def predicted_labels(logits_KZYX: torch.Tensor, manager: LabelManager) -> np.ndarray:
    """Labels (Z, Y, X) of a network's logits."""
    return np.asarray(manager.convert_logits_to_segmentation(logits_KZYX.float().cpu()))


def reference_labels(target_KZYX: torch.Tensor, manager: LabelManager) -> np.ndarray:
    """Labels (Z, Y, X) of a target, also where it is one mask for each region."""
    if not manager.has_regions:
        return target_KZYX[0].numpy()
    regions = target_KZYX[: manager.num_segmentation_heads].float()
    return np.asarray(manager.convert_probabilities_to_segmentation(regions))
