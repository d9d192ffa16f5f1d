"""nnU-Net's own preprocessing as the reference: v2 by calling it, v1 from its description."""

from typing import Any

import numpy as np
from scipy import ndimage

from stunet.imaging.volume import Volume

CT_STATISTICS = {"mean": 50.0, "std": 120.0, "percentile_00_5": -800.0, "percentile_99_5": 600.0}
IMAGE_RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def v2_plans(
    spacing: tuple[float, float, float] = (1.5, 1.5, 1.5),
    schemes: list[str] | None = None,
    masks: list[bool] | None = None,
    transpose: tuple[int, int, int] = (0, 1, 2),
) -> dict[str, Any]:
    """A plans.json with all that preprocessing reads."""
    schemes, masks = schemes or ["ZScoreNormalization"], masks or [False]
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "spacing": list(spacing),
        "patch_size": [64, 64, 64],
        "normalization_schemes": schemes,
        "use_mask_for_norm": masks,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": IMAGE_RESAMPLING,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**IMAGE_RESAMPLING, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**IMAGE_RESAMPLING, "order": 1},
        "architecture": {"network_class_name": "PlainConvUNet", "arch_kwargs": {"strides": [[1, 1, 1], [2, 2, 2]]}},
    }
    return {
        "dataset_name": "phantom",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(transpose),
        "transpose_backward": [int(axis) for axis in np.argsort(transpose)],
        "foreground_intensity_properties_per_channel": {str(c): CT_STATISTICS for c in range(len(schemes))},
        "configurations": {"3d_fullres": configuration},
    }


def preprocess_v2(volume: Volume, plans: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """nnU-Net v2's DefaultPreprocessor: image (C, Z, Y, X) in network axes, and its properties."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    properties = {"spacing": list(volume.spacing)}
    image, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        volume.array, None, properties, manager, manager.get_configuration("3d_fullres"), {}
    )
    return image, properties


def preprocess_v1(volume: Volume, spacing: tuple[float, float, float], scheme: str, use_mask: bool) -> np.ndarray:
    """nnU-Net v1 as described: crop to nonzero, resample values and mask, then normalise; one channel, no transpose."""
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    mask = ndimage.binary_fill_holes((volume.array != 0).any(axis=0))
    occupied = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    box = tuple(slice(int(where[0]), int(where[-1]) + 1) for where in occupied)
    data, outside = volume.array[(slice(None), *box)].astype(np.float32), np.where(mask[box], 0.0, -1.0)[None]
    shape = np.round(np.array(volume.spacing) / np.array(spacing) * data.shape[1:]).astype(int)
    data = resample_data_or_seg_to_shape(data, shape, volume.spacing, spacing, False, 3, 0, None)
    outside = resample_data_or_seg_to_shape(outside, shape, volume.spacing, spacing, True, 1, 0, None)
    inside = outside[0] >= 0 if use_mask else np.ones(data.shape[1:], dtype=bool)
    image = data[0].astype(np.float64)
    if scheme == "CT":
        image = np.clip(image, CT_STATISTICS["percentile_00_5"], CT_STATISTICS["percentile_99_5"])
        image = (image - CT_STATISTICS["mean"]) / CT_STATISTICS["std"]
    else:
        image[inside] = (image[inside] - image[inside].mean()) / (image[inside].std() + 1e-8)
    image[~inside] = 0
    return image[None]
