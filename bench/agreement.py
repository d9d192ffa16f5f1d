"""Compare labels of `stunet predict` with nnU-Net's own command, for the same model folder, on real images.

Both run as commands, in float32 on the CPU, without mirroring. nnU-Net saves its probabilities. Where labels differ,
they give the lead of nnU-Net's first class over its second: a lead near zero is a tie.

    python bench/agreement.py [--folder MODEL_FOLDER] [--cases 20] [--data ../shared/data]

Without --folder, the bundled hippocampus model is first written as an nnU-Net v2 model folder.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import nibabel
import numpy as np
import torch

from stunet.plans.preprocessing import PreprocessingPlan
from stunet.training.environment import TRAINER_FOLDER
from stunet.weights.model_card import stunet_on
from stunet.weights.model_file import ModelCard, StateDict, read_model, separated
from stunet.weights.model_store import get_model

REPOSITORY = Path(__file__).resolve().parents[1]
RESAMPLING = "resample_data_or_seg_to_shape"

NNUNET_COMMAND = """
from tests.training.torchvision_operators import declare_if_missing
declare_if_missing()
from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder
predict_entry_point_modelfolder()
"""
"""`nnUNetv2_predict_from_modelfolder`, also if torchvision was built for CUDA and torch was not."""


def write_nnunet_folder(folder: Path, state_dict: StateDict, card: ModelCard) -> None:
    """Write a z-score model as an nnU-Net v2 folder: plans.json, dataset.json, fold_0/checkpoint_final.pth."""
    plan = cast(PreprocessingPlan, card.preprocessing)
    kwargs = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "STUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(plan.patch_size),
        "spacing": list(plan.spacing),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": RESAMPLING,
        "resampling_fn_data_kwargs": {**kwargs, "order": 3},
        "resampling_fn_seg": RESAMPLING,
        "resampling_fn_seg_kwargs": {**kwargs, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": RESAMPLING,
        "resampling_fn_probabilities_kwargs": {**kwargs, "order": 1},
        "batch_dice": False,
        "architecture": {
            "network_class_name": "stunet.networks.stunet.STUNet",
            "arch_kwargs": {
                "width": stunet_on(card).arguments["width"],
                "depth": stunet_on(card).arguments["depth"],
                "strides": [list(stride) for stride in stunet_on(card).arguments["strides"]],
            },
            "_kw_requires_import": [],
        },
    }
    plans = {
        "dataset_name": "Dataset004_Hippocampus",
        "plans_name": "STUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "STUNetPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(len(card.channels))},
    }
    dataset = {
        "channel_names": {"0": card.channels[0]},
        "labels": {name: value for value, name in enumerate(card.labels)},
        "numTraining": 160,
        "file_ending": ".nii.gz",
    }
    checkpoint = {
        "network_weights": {key: tensor.float() for key, tensor in state_dict.items()},
        "trainer_name": "STUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def collect_images(data: Path, cases: int, target: Path) -> None:
    """Link hippocampus scans and one real CT under nnU-Net's names."""
    target.mkdir()
    images = sorted((data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz"))
    for image in images[:: max(1, len(images) // cases)][:cases]:
        shutil.copy(image, target)
    shutil.copy(data / "totalseg_example" / "ct_crop.nii.gz", target / "ct_0000.nii.gz")


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Run a command and return its seconds. Its output is shown if it fails."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def lead_of_first_class(npz: Path, differs_ZYX: np.ndarray) -> float:
    """The largest lead of nnU-Net's first class over its second among the differing voxels, in probability."""
    if not differs_ZYX.any():
        return 0.0
    with np.load(npz) as stored:
        probabilities = stored["probabilities"].astype(np.float64)
    first, second = np.sort(probabilities[:, differs_ZYX], axis=0)[::-1][:2]
    return float((first - second).max())


def compare(ours: Path, theirs: Path) -> tuple[int, int, float]:
    """Number of voxels, number of differing voxels, and the largest lead among them."""
    labels_XYZ = [np.asanyarray(nibabel.Nifti1Image.from_filename(path).dataobj) for path in (ours, theirs)]
    differs_XYZ = labels_XYZ[0] != labels_XYZ[1]
    npz = theirs.with_name(theirs.name.removesuffix(".nii.gz") + ".npz")
    return differs_XYZ.size, int(differs_XYZ.sum()), lead_of_first_class(npz, differs_XYZ.transpose())


def main() -> None:
    """Run both commands and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--cases", type=int, default=20)
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = options.folder or work / "model"
        if options.folder is None:
            state_dict, card = read_model(get_model("hippocampus"))
            write_nnunet_folder(folder, separated(state_dict, card.members)[0], card)
        collect_images(options.data, options.cases, work / "images")
        environment = {**os.environ, "nnUNet_extTrainer": str(TRAINER_FOLDER), "PYTHONPATH": str(REPOSITORY)}
        for name in ("raw", "preprocessed", "results"):
            environment[f"nnUNet_{name}"] = str(work / name)
        bin_folder = Path(sys.executable).parent
        common = ["-i", str(work / "images"), "-m", str(folder), "-f", "0"]
        seconds_nnunet = timed(
            [
                *(sys.executable, "-c", NNUNET_COMMAND, *common, "-o", str(work / "nnunet")),
                *("--disable_tta", "-device", "cpu", "-npp", "1", "-nps", "1", "--save_probabilities"),
            ],
            environment,
        )
        seconds_ours = timed(
            [
                *(str(bin_folder / "stunet"), "predict", *common, "-o", str(work / "stunet")),
                *("--device", "cpu", "--backend", "torch", "--precision", "float32"),
            ],
            environment,
        )
        report(work, seconds_ours, seconds_nnunet)


def report(work: Path, seconds_ours: float, seconds_nnunet: float) -> None:
    """Print one row per case."""
    print("| case | voxels | differing | equal | largest lead where they differ |")
    print("|---|---|---|---|---|")
    total = differing = 0
    for theirs in sorted((work / "nnunet").glob("*.nii.gz")):
        size, differ, lead = compare(work / "stunet" / theirs.name, theirs)
        name = theirs.name.removesuffix(".nii.gz")
        print(f"| {name} | {size} | {differ} | {1 - differ / size:.6f} | {lead:.1e} |")
        total, differing = total + size, differing + differ
    print(f"| all | {total} | {differing} | {1 - differing / total:.6f} | |")
    print(f"\nseconds, command to files: stunet {seconds_ours:.1f}, nnU-Net {seconds_nnunet:.1f}", end=", ")
    print(f"ratio {seconds_nnunet / seconds_ours:.1f} (nnU-Net also saves probabilities here)")


if __name__ == "__main__":
    main()
