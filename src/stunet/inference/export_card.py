"""The card beside an exported network: all that is needed to use the file without stunet, in numbers and in words.

Keys hold numbers for programs; each section's `how` says in words what to do with them.
"""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stunet.files import file_sha256
from stunet.imaging.normalize import EPSILON
from stunet.inference.sliding import Sliding
from stunet.inference.windows import GAUSSIAN_PEAK, GAUSSIAN_SIGMA_FRACTION
from stunet.plans.labels import Region
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from stunet.weights.model import Model

EXPORT_CARD_VERSION = 2
"""Rises when older programs could misread a card; version 1 wrote the network flat, as `architecture`."""


def export_card(model: Model, files: Sequence[Path], names: tuple[str, str], difference: float) -> dict[str, Any]:
    """The card as JSON holds it.

    It names the files without their folder. `names` are those of the network's input and output; for the difference
    see `stunet.inference.export.Exported`.
    """
    input_name, output_name = names
    card, plan = model.card, model.plan
    return {
        "card_version": EXPORT_CARD_VERSION,
        "about": f"A network exported by stunet {version('stunet')}, and how to use it. Not a medical device.",
        "files": [{"name": f.name, "bytes": f.stat().st_size, "sha256": file_sha256(f)} for f in files],
        "checked": {
            "largest_difference": difference,
            "how": "Of the file's logits from torch's on a window of noise, in standard deviations of these.",
        },
        "input": _tensor(input_name, card.channels, plan),
        "output": _tensor(output_name, card.labels, plan),
        "model": {
            "name": card.name,
            "network": card.network.to_dict(),
            "networks_averaged": len(model.networks),
            "licence": card.licence,
            "source": card.source,
            "training": dict(card.training),
            "metrics": dict(card.metrics),
            "citation": card.citation,
        },
        "preprocessing": preprocessing_section(plan, card.channels),
        "sliding_window": sliding_window_section(plan, card.mirror_axes),
        "postprocessing": postprocessing_section(plan, card.labels, card.regions),
    }


def _tensor(name: str, channels: Sequence[str], plan: PreprocessingPlan) -> dict[str, Any]:
    return {
        "name": name,
        "type": "float32",
        "axes": ["batch", "channel", "Z", "Y", "X"],
        "shape": ["any", len(channels), *plan.patch_size],
        "channels": list(channels),
    }


# Preprocessing


def preprocessing_section(plan: PreprocessingPlan, channels: Sequence[str]) -> dict[str, Any]:
    """From the scan to the network's grid."""
    last = ["resample", "normalise"] if plan.convention == "nnunet_v1" else ["normalise", "resample"]
    return {
        "how": (
            "Read real intensities (slope and intercept applied) as float32 (Z, Y, X): the transpose of NIfTI's "
            "(x, y, z). Then take the steps named in 'order'."
        ),
        "order": ["orient", "transpose", "crop", *last],
        "orient": {
            "to": plan.orientation,
            "how": (
                "Permute and flip whole axes, without interpolation, until x, y and z run to the patient's sides that "
                "'to' names (RAS: right, anterior, superior; nibabel.as_closest_canonical). null: leave them as stored."
            ),
        },
        "transpose": {
            "axes": list(plan.transpose_forward),
            "how": "numpy.transpose of (Z, Y, X) by these axes. From here on, Z, Y, X mean the axes in this new order.",
        },
        "crop": {
            "how": (
                "Keep the smallest box that holds every voxel that is not 0 in any channel; all where every voxel is 0."
            ),
        },
        "normalise": {
            "channels": [_normalisation(c, name) for c, name in zip(plan.normalization, channels, strict=True)],
            "how": (
                "Per channel: clip to 'clip', subtract, divide. 'mean', 'standard deviation' (of the population), "
                f"'minimum' and 'range' are the image's own at this step; no divisor is below {EPSILON:g}. With "
                "'inside_mask', only voxels inside the mask count in these, and the others become 0; the mask is what, "
                "in the crop, is not 0 in any channel, with holes filled (where resampling came first: resampled with "
                "order 1, and from 0.5 on inside)."
            ),
        },
        "resample": {
            "spacing_mm": list(plan.spacing),
            "order": plan.image_order,
            "thick_slices": _thick_slices(plan, plan.image_order_z, ["scan", "network"]),
            "how": (
                "To round(size * scan spacing / spacing_mm) voxels (half to even) over the same extent: output voxel i "
                "lies at (i + 0.5) * input size / output size - 0.5, beyond the edge the edge continues, interpolating "
                "B-spline of 'order' (scipy.ndimage.zoom with mode='nearest', grid_mode=True), then clip to the "
                "input's minimum and maximum."
            ),
        },
    }


def _normalisation(channel: ChannelNormalization, name: str) -> dict[str, Any]:
    """What one channel's scheme does: numbers, or the names of the image's own statistics."""
    clip, subtract, divide = {
        "ct": ([channel.percentile_00_5, channel.percentile_99_5], channel.mean, max(channel.std, EPSILON)),
        "zscore": (None, "mean", "standard deviation"),
        "rescale_to_0_1": (None, "minimum", "range"),
        "rgb_to_0_1": (None, 0.0, 255.0),
        "none": (None, 0.0, 1.0),
    }[channel.scheme]
    return {
        "channel": name,
        "scheme": channel.scheme,
        "clip": clip,
        "subtract": subtract,
        "divide_by": divide,
        "inside_mask": channel.use_mask,
    }


def _thick_slices(plan: PreprocessingPlan, order: int, grids: Sequence[str]) -> dict[str, Any]:
    """When and how one axis is interpolated apart from the others."""
    return {
        "apart": {True: "always", False: "never", None: "by threshold"}[plan.force_separate_z],
        "threshold": plan.anisotropy_threshold,
        "grids": list(grids) if plan.force_separate_z is None else list(grids)[:1],
        "order": order,
        "how": (
            "Look at the spacing of the first of 'grids', then of the next: where the largest exceeds 'threshold' "
            "times the smallest (or 'apart' is always), the axis with the largest is thick; none, if two share it. "
            "Planes across a thick axis are interpolated one by one, as otherwise the whole is, each clipped to its "
            "own range; then, along it, with this 'order' (0: the nearest voxel, of two the upper)."
        ),
    }


# Between


def sliding_window_section(plan: PreprocessingPlan, mirror_axes: Sequence[int]) -> dict[str, Any]:
    """From the network's grid to logits for all of it."""
    return {
        "size": list(plan.patch_size),
        "step": Sliding.step,
        "padding_value": 0.0,
        "weight": {
            "sigma": [size * GAUSSIAN_SIGMA_FRACTION for size in plan.patch_size],
            "centre": [size // 2 for size in plan.patch_size],
            "peak": GAUSSIAN_PEAK,
            "how": (
                "Voxel (z, y, x) of a window counts peak * exp(-((z - centre z) / sigma z)^2 / 2 - the same of y - the "
                "same of x), rounded to float16; what that rounds to 0 counts as the smallest value that does not."
            ),
        },
        "mirror_axes": list(mirror_axes),
        "how": (
            "An axis shorter than the window is padded with padding_value, half before (rounded down) and half behind, "
            "and the padding cut off afterwards. Windows start on each axis at round(k * (size - window) / n) for "
            "k = 0..n, half to even, where n = ceil((size - window) / (step * window)); only at 0 if n is 0. The "
            "logits of a voxel are sum(weight * logits) / sum(weight) over all windows that hold it. Slower and a "
            "little more accurate: average each window's logits over its copies mirrored along every subset of "
            "mirror_axes (0, 1, 2 are Z, Y, X), each mirrored back."
        ),
    }


def postprocessing_section(
    plan: PreprocessingPlan, labels: Sequence[str], regions: Sequence[Region] = ()
) -> dict[str, Any]:
    """From logits to labels on the scan's grid."""
    grids = ["network", "scan"] if plan.convention == "nnunet_v2" else ["scan", "network"]
    return {
        "order": ["resample", "paint" if regions else "argmax", "uncrop", "untranspose", "unorient"],
        "resample": {
            "order": plan.logits_order,
            "thick_slices": _thick_slices(plan, plan.logits_order_z, grids),
            "how": "Each class's logits to the size of the crop, by the same rule as the image.",
        },
        "labels": list(labels),
        "regions": [asdict(region) for region in regions],
        "how": f"After resampling, {PAINT if regions else ARGMAX} Outside the crop it is 0. {AS_SCANNED}",
    }


ARGMAX = "a voxel's label is the class with the highest logit, the first of equals; 'labels' names them from 0 on."
PAINT = (
    "start with label 0 everywhere and go through 'regions', one for each channel in order; 'labels' names them. Where "
    "1 / (1 + exp(-logit)) is above 0.5, the voxel's label becomes the region's 'label'. A region's voxels are then "
    "those with one of the labels 'members'."
)
AS_SCANNED = "Undo 'transpose', then 'orient', and write the labels with the scan's own affine."
