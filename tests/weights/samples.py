"""Checkpoints as nnU-Net writes them, with the official names, made in the test."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import PUBLISHED_STRIDES, STUNet
from stunet.weights.checkpoint import to_official_names
from stunet.weights.model_file import ModelCard
from stunet.weights.published import PUBLISHED_PLAN

PUBLISHED_POOLING = [[2, 2, 2]] * 4 + [[1, 1, 2]]


def network(size: str = "tiny", input_channels: int = 1, num_classes: int = 3) -> STUNet:
    """A network with reproducible random weights, in evaluation mode."""
    torch.manual_seed(0)
    return build(network_spec(size, input_channels, num_classes, strides=PUBLISHED_STRIDES)).eval()


def card(num_classes: int = 3, input_channels: int = 1, width: int = 8, **changes: Any) -> ModelCard:
    """The card of a `tiny` network."""
    spec = STUNet(input_channels, num_classes, width, strides=PUBLISHED_STRIDES).spec
    fields: dict[str, Any] = {
        "name": "sample",
        "network": spec,
        "preprocessing": PUBLISHED_PLAN,
        "labels": ("background", *(f"class_{label}" for label in range(1, num_classes))),
        "channels": tuple(f"channel_{index}" for index in range(input_channels)),
        "mirror_axes": (0, 1, 2),
        "training": {"epochs": 3},
        "metrics": {"dice": 0.9},
    }
    return ModelCard(**{**fields, **changes})


def v1_content(state_dict: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Everything that nnU-Net v1 stores in a `.model`, including numpy scalars."""
    losses = [np.float64(0.5), np.float32(0.25)]
    return {
        "epoch": 4000,
        "state_dict": OrderedDict(to_official_names(state_dict)),
        "optimizer_state_dict": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.01}]},
        "lr_scheduler_state_dict": None,
        "plot_stuff": (losses, losses, [], [np.array([0.1, 0.9])]),
        "best_stuff": (np.float64(-0.5), np.float64(0.9), None),
        "amp_grad_scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0},
    }


def write_v1(path: Path, state_dict: dict[str, torch.Tensor], **options: Any) -> Path:
    """Write a `.model`; `options` are passed to torch.save."""
    torch.save(v1_content(state_dict), path, **options)
    return path


def v1_plans(pooling: Any = None, num_classes: int = 2) -> dict[str, Any]:
    """Minimal plans of nnU-Net v1, with numpy values as in real ones."""
    stage = {
        "patch_size": np.array([128, 128, 128]),
        "current_spacing": np.array([1.5, 1.5, 1.5]),
        "pool_op_kernel_sizes": pooling or PUBLISHED_POOLING,
        "do_dummy_2D_data_aug": False,
    }
    return {
        "plans_per_stage": {0: stage},
        "num_classes": num_classes,
        "all_classes": list(range(1, num_classes + 1)),
        "num_modalities": 1,
        "modalities": {0: "CT"},
        "normalization_schemes": OrderedDict({0: "nonCT"}),
        "use_mask_for_norm": OrderedDict({0: False}),
        "transpose_forward": [0, 1, 2],
        "dataset_properties": {"intensityproperties": None, "all_sizes": [(np.int64(3), 4, 5)]},
    }


def v2_plans(network_class: str = "stunet.networks.stunet.STUNet", **configuration: Any) -> dict[str, Any]:
    """Plans of nnU-Net v2 with one 3D and one 2D configuration."""
    fullres = {
        "patch_size": [128, 128, 128],
        "spacing": [1.5, 1.5, 1.5],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": network_class,
            "arch_kwargs": {"width": 8, "depth": 1, "strides": [[1, 1, 1], *PUBLISHED_POOLING]},
            "_kw_requires_import": [],
        },
        **configuration,
    }
    return {
        "dataset_name": "Dataset004_Hippocampus",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "configurations": {
            "3d_fullres": fullres,
            "2d": {"patch_size": [128, 128], "architecture": {"arch_kwargs": {"strides": [[1, 1], [2, 2]]}}},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }


V2_DATASET = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
    "file_ending": ".nii.gz",
}


def v2_content(
    state_dict: dict[str, torch.Tensor],
    plans: dict[str, Any],
    trainer: str = "STUNetTrainer_small",
    configuration: str = "3d_fullres",
) -> dict[str, Any]:
    """Everything that nnU-Net v2's `save_checkpoint` stores."""
    return {
        "network_weights": state_dict,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.8)], "dice_per_class_or_region": [[np.float32(0.8)]]},
        "_best_ema": np.float64(0.8),
        "current_epoch": 7,
        "init_args": {
            "plans": plans,
            "configuration": configuration,
            "fold": 0,
            "dataset_json": V2_DATASET,
            "device": torch.device("cpu"),
        },
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


def write_folder(
    path: Path,
    plans: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    folds: Sequence[str] = ("0", "1"),
    checkpoint: str = "checkpoint_final.pth",
    **content: Any,
) -> Path:
    """A model folder as written by nnU-Net v2."""
    plans = plans or v2_plans()
    path.mkdir(parents=True, exist_ok=True)
    (path / "plans.json").write_text(json.dumps(plans))
    (path / "dataset.json").write_text(json.dumps(dataset or V2_DATASET))
    state_dict = content.pop("state_dict", network().state_dict())
    for fold in folds:
        (path / f"fold_{fold}").mkdir()
        torch.save(v2_content(state_dict, plans, **content), path / f"fold_{fold}" / checkpoint)
    return path
