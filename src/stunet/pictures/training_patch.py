"""Draw the progress of a training: a patch of a validation case, the reference and the prediction."""

from pathlib import Path

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

from stunet.files import printable, replacing
from stunet.pictures.display import fullest_slice

SHADES = (1, 99)
"""Percentiles of the image shown as black and white."""

COLOURS = "gist_rainbow"
"""matplotlib's colour map for labels."""

DIFFERENT = ListedColormap(["orange"])
"""The colour of voxels whose labels differ."""


def draw_patch(
    path: Path, title: str, image_ZYX: np.ndarray, reference_ZYX: np.ndarray, prediction_ZYX: np.ndarray
) -> None:
    """Write a PNG of the slice with the most foreground: image, reference, prediction, and their differences.

    Args:
        path: the PNG file.
        title: title above the picture.
        image_ZYX: intensities.
        reference_ZYX: labels, 0 for background.
        prediction_ZYX: labels, 0 for background.

    Raises:
        UserError: the file cannot be written.
    """
    z = fullest_slice(reference_ZYX > 0)
    image, reference, prediction = image_ZYX[z], reference_ZYX[z], prediction_ZYX[z]
    highest = max(1, int(reference_ZYX.max()), int(prediction_ZYX.max()))
    shown: list[tuple[str, np.ndarray, str | Colormap, int]] = [
        ("image", np.zeros_like(reference), COLOURS, highest),
        ("reference", reference, COLOURS, highest),
        ("prediction", prediction, COLOURS, highest),
        ("different", (prediction != reference).astype(int), DIFFERENT, 1),
    ]
    low, high = np.percentile(image, SHADES)
    rows, columns = image.shape
    with rc_context(rcParamsDefault):  # nnU-Net sets a font 2.5 times as large for its curves
        figure = Figure(figsize=(12, min(9.0, 3 * rows / columns) + 0.8), layout="constrained")
        figure.suptitle(f"{printable(title)}, slice {z} of {len(image_ZYX)}", parse_math=False)
        for axes, (name, labels, colours, most) in zip(figure.subplots(1, 4), shown, strict=True):
            axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
            marked = np.ma.masked_equal(labels, 0)
            axes.imshow(marked, cmap=colours, vmin=0, vmax=most, alpha=0.6, interpolation="nearest")
            axes.set_title(name)
            axes.set_axis_off()
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=100)
