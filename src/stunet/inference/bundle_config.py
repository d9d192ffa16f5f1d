"""What `configs/` of a MONAI bundle says: how a scan is prepared, segmented and saved, and what the model is."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from stunet.errors import UserError
from stunet.imaging.normalize import EPSILON
from stunet.inference.sliding import Sliding
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from stunet.weights.model import Model

MODEL_FILE = "models/model.ts"
"""The network, as TorchScript."""

STEPS = "scripts.stunet_steps"
"""The bundle's own steps, from `bundle_steps.py`."""

TESTED_WITH = {"monai": "1.6.1", "pytorch-ignite": "0.5.5"}
"""Versions of packages that run bundles; none of them is needed to write one."""

Config = dict[str, Any]
"""A component as MONAI writes it: its class in `_target_`, and its arguments."""


def window_size(plan: PreprocessingPlan) -> list[int]:
    """The window in MONAI's order of axes (X, Y, Z) of the scan."""
    return _as_xyz(plan, plan.patch_size)


def _as_xyz(plan: PreprocessingPlan, values: Sequence[Any]) -> list[Any]:
    """Values of the network's axes in the order X, Y, Z."""
    return [values[plan.transpose_forward.index(axis)] for axis in (2, 1, 0)]


def require_bundle(model: Model) -> None:
    """Refuse a model whose answers a bundle could not give.

    Raises:
        UserError: regions, masks, different normalisations of the channels, or unusual orders of interpolation.
    """
    plan = model.plan
    kinds = {channel if channel.scheme == "ct" else channel.scheme for channel in plan.normalization}
    reasons = {
        "its structures overlap": bool(model.card.regions),
        "it normalises inside a mask": any(channel.use_mask for channel in plan.normalization),
        "its channels are normalised in different ways": len(kinds) > 1,
        "its logits are not interpolated linearly": (plan.logits_order, plan.logits_order_z) != (1, 0),
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise UserError(
                f"Model {model.card.name!r} cannot become a MONAI bundle, because {reason}. Export it to onnx."
            )


def inference_config(model: Model) -> Config:
    """`inference.json`, which `python -m monai.bundle run` executes."""
    channels = len(model.card.channels)
    scans, data = ("*.nii.gz", "$[{'image': name} for name in @scans]")
    if channels > 1:
        scans = "*_0000.nii.gz"
        data = f"$[{{'image': [name[:-11] + '%04d.nii.gz' % c for c in range({channels})]}} for name in @scans]"
    return {
        "imports": ["$import glob", "$import os", "$import sys", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$os.path.join(@bundle_root, 'scans')",
        "output_dir": "$os.path.join(@bundle_root, 'eval')",
        "scans": f"$sorted(glob.glob(os.path.join(@dataset_dir, '{scans}')))",
        "data": data,
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": f"$torch.jit.load(os.path.join(@bundle_root, '{MODEL_FILE}'), map_location=@device)",
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(model.plan)},
        "dataset": {"_target_": "Dataset", "data": "@data", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": f"{STEPS}.EvenWindowInferer",
            "roi_size": window_size(model.plan),
            "step": Sliding.step,
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(model)},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network_def",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "amp": False,
        },
        "initialize": ["$sys.path.insert(0, @bundle_root)"],
        "run": ["$@evaluator.run()"],
    }


def _preprocessing(plan: PreprocessingPlan) -> list[Config]:
    """From a file to the network's grid."""
    crop = {"source_key": "image", "select_fn": "$lambda image: image != 0", "margin": 0, "allow_smaller": True}
    grid = {
        "spacing": _as_xyz(plan, plan.spacing),
        "order": plan.image_order,
        "thick_order": plan.image_order_z,
        "force": plan.force_separate_z,
        "threshold": plan.anisotropy_threshold,
        "network_first": plan.convention == "nnunet_v2",
    }
    normalised, resampled = _normalisation(plan.normalization[0]), [_on_image(f"{STEPS}.NetworkGridd", **grid)]
    return [
        _on_image("LoadImaged"),
        _on_image("EnsureChannelFirstd"),
        *([_on_image("Orientationd", axcodes=plan.orientation)] if plan.orientation else []),
        _on_image("CropForegroundd", **crop),
        *([*normalised, *resampled] if plan.convention == "nnunet_v2" else [*resampled, *normalised]),
    ]


def _normalisation(channel: ChannelNormalization) -> list[Config]:
    """What a scheme does, to each channel alike."""
    if channel.scheme == "zscore":
        return [_on_image("NormalizeIntensityd", channel_wise=True)]
    if channel.scheme == "rescale_to_0_1":
        return [_on_image("ScaleIntensityd", minv=0.0, maxv=1.0, channel_wise=True)]
    if channel.scheme == "rgb_to_0_1":
        return [_on_image("ScaleIntensityRanged", a_min=0.0, a_max=255.0, b_min=0.0, b_max=1.0)]
    if channel.scheme == "ct":
        low, high, std = channel.percentile_00_5, channel.percentile_99_5, max(channel.std, EPSILON)
        to = {"b_min": (low - channel.mean) / std, "b_max": (high - channel.mean) / std}
        return [_on_image("ScaleIntensityRanged", a_min=low, a_max=high, clip=True, **to)]
    return []


def _on_image(target: str, **arguments: Any) -> Config:
    return {"_target_": target, "keys": ["image"], **arguments}


def _postprocessing(model: Model) -> list[Config]:
    """From logits to a file with labels on the scan's grid."""
    many = max(model.names) > 255
    return [
        {"_target_": "EnsureTyped", "keys": ["pred"], "device": "cpu"},
        {
            "_target_": "Invertd",
            "keys": ["pred"],
            "transform": "@preprocessing",
            "orig_keys": ["image"],
            "nearest_interp": False,
            "to_tensor": True,
        },
        {"_target_": "AsDiscreted", "keys": ["pred"], "argmax": True},
        {
            "_target_": "SaveImaged",
            "keys": ["pred"],
            "output_dir": "@output_dir",
            "output_postfix": "labels",
            "output_ext": ".nii.gz",
            "output_dtype": "$__import__('numpy').uint16" if many else "$__import__('numpy').uint8",
            "separate_folder": False,
            "resample": False,
        },
    ]


def metadata(model: Model) -> Config:
    """`metadata.json`, as MONAI's schema for bundles has it."""
    card, size = model.card, window_size(model.plan)
    space = {"num_spatial_dims": 3, "dtype": "float32", "spatial_shape": size, "is_patch_data": True}
    return {
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by stunet {version('stunet')}"},
        "monai_version": TESTED_WITH["monai"],
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            **{name: version(name) for name in ("nibabel", "scipy")},
            "pytorch-ignite": TESTED_WITH["pytorch-ignite"],
        },
        "name": card.name,
        "task": f"Segmentation of {len(card.labels) - 1} structures",
        "description": f"{card.name}: an STU-Net, exported by stunet. Not a medical device.",
        "authors": "see docs/README.md",
        "copyright": f"weights: {card.licence}; see LICENSE",
        "intended_use": "Research. Not a medical device.",
        "network_data_format": {
            "inputs": {
                "image": {
                    **space,
                    "type": "image",
                    "format": "magnitude",
                    "modality": ", ".join(card.channels),
                    "num_channels": len(card.channels),
                    "value_range": [],
                    "channel_def": _numbered(card.channels),
                }
            },
            "outputs": {
                "pred": {
                    **space,
                    "type": "image",
                    "format": "logits",
                    "num_channels": len(card.labels),
                    "value_range": [],
                    "channel_def": _numbered(card.labels),
                }
            },
        },
    }


def _numbered(names: Sequence[str]) -> Mapping[str, str]:
    return {str(number): name for number, name in enumerate(names)}
