"""One CT, 105 classes, STU-Net-S: `stunet predict` with each backend, and the other systems of `bench/peers.py`.

Seconds are from the start of the process to the written file. Peak memory is that of the process and all its children,
sampled ten times a second. Weights are random unless trained ones are given (made by `bench/fit_ct.py`). They do not
affect the network's time and memory. They do affect the labels and the time to compute them: with random weights many
voxels are near ties, and neighbours differ everywhere.

    python bench/inference.py [--folder MODEL_FOLDER | --model FILE.safetensors] [--repeats 2]
        [--systems "openvino float32"] [--peers "nnU-Net 2.8" "MONAI's inferer"] [--shape 120 100 90]
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import cast

import nibabel
import numpy as np
import torch
from agreement import write_nnunet_folder
from inference_memory import random_model
from make_ct import make_ct
from peers import PEERS, Place, run_peers
from runs import Run, measured

from stunet.evaluation.dice import dice_per_label
from stunet.inference.backends.maps import Features
from stunet.inference.backends.precision import cpu_computes_bfloat16
from stunet.inference.windows import window_starts
from stunet.networks.cost import count_macs
from stunet.networks.fuse import fuse
from stunet.networks.network import twin_of
from stunet.networks.stunet import STUNet
from stunet.training.environment import TRAINER_FOLDER
from stunet.weights.model import load_model
from stunet.weights.model_file import save_model

REPOSITORY = Path(__file__).resolve().parents[1]
SHAPE, SPACING = (458, 379, 224), (0.8, 0.8, 1.5)
WINDOW, SPACING_MM = (128, 128, 128), 1.5
CLASSES = 105
CASE = "ct"
HALF_WEIGHTS = ", weights in float16"
"""Part of the name of a system whose model file has half the size."""
LEAST_VOXELS = 100


def convolution_rate(dtype: torch.dtype) -> float:
    """Multiply-adds per second of a 3x3x3 convolution that suits the machine: the measured peak with oneDNN."""
    layer = torch.nn.Conv3d(64, 64, 3, padding=1, dtype=dtype)
    image = torch.randn(1, 64, 64, 64, 64, dtype=dtype).to(memory_format=torch.channels_last_3d)
    seconds = []
    with torch.inference_mode():
        for _ in range(8):
            start = time.perf_counter()
            layer(image)
            seconds.append(time.perf_counter() - start)
    return 64 * 64 * 27 * 64**3 / min(seconds)


def systems() -> dict[str, list[str]]:
    """System name -> options of `stunet predict`."""
    chosen: dict[str, list[str]] = {}
    for name in ("openvino float32", "openvino bfloat16", "onnx float32", "torch float32", "torch bfloat16"):
        if "bfloat16" not in name or cpu_computes_bfloat16():
            backend, precision = name.split()
            chosen[name] = ["--backend", backend, "--precision", precision]
    return {**chosen, f"openvino float32{HALF_WEIGHTS}": chosen["openvino float32"]}


def main() -> None:
    """Run everything and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--folder", type=Path)
    given.add_argument("--model", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "stunet-bench")
    parser.add_argument("--repeats", type=int, default=2, help="the last counts: the first compiles")
    parser.add_argument("--systems", nargs="+", choices=list(systems()), default=list(systems()))
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=[name for name in PEERS if can_run(name)])
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, help="voxels of the CT")
    options = parser.parse_args()
    size = "x".join(map(str, options.shape))
    scan = make_ct(options.cache / size / f"{CASE}_0000.nii.gz", options.shape, SPACING)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = options.folder or work / "model"
        if options.folder is None:
            model = load_model(options.model) if options.model else random_model(CLASSES)
            write_nnunet_folder(folder, model.networks[0].state_dict(), model.card)
        environment = {
            **os.environ,
            "nnUNet_extTrainer": str(TRAINER_FOLDER),
            "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}",
        }
        for name in ("raw", "preprocessed", "results"):
            environment[f"nnUNet_{name}"] = str(work / name)
        place = Place(scan, folder, work, environment)
        runs = [*run_peers(options.peers, place), *ours(place, options)]
        print_tables(runs, options.shape)


def can_run(peer: str) -> bool:
    """Whether what a peer needs is installed."""
    needed = {"nnU-Net": ["nnunetv2"], "MONAI": ["monai"], "ONNX": ["onnx", "onnxruntime"]}
    return all(find_spec(one) for word, packages in needed.items() if word in peer for one in packages)


def ours(place: Place, options: argparse.Namespace) -> list[Run]:
    """The last of several runs of each of our systems."""
    runs = []
    for name in options.systems:
        labels, folder = place.labels(name), place.folder
        if name.endswith(HALF_WEIGHTS):
            model, folder = load_model(folder), place.work / "half.safetensors"
            save_model(folder, model.networks[0].state_dict(), model.card, "float16")
        command = [str(Path(sys.executable).parent / "stunet"), "predict", "-i", str(place.scan), "-o", str(labels)]
        command += ["-m", str(folder), "--device", "cpu", *systems()[name]]
        for _ in range(options.repeats if "openvino" in name else 1):
            run = measured(f"stunet {name}", command, labels, place.environment)
            print(f"{run.name}: {run.seconds:.1f} s", file=sys.stderr)
        runs.append(run)
    return runs


def print_tables(runs: list[Run], shape_xyz: Sequence[int]) -> None:
    """Print seconds, memory and agreement, then our stages and the fraction of the convolution peak."""
    first = runs[0]
    print(f"CT of {'x'.join(map(str, shape_xyz))} voxels, {CLASSES} classes, STU-Net-S, step 0.5, no mirroring")
    print(f"{os.cpu_count()} processors, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}\n")
    print(
        f"| system | seconds | peak GiB | equal labels | mean DSC | lowest | times faster than {first.name} "
        "| of its memory |"
    )
    print("|---|---|---|---|---|---|---|---|")
    reference = labels_of(first)
    for run in runs:
        labels = labels_of(run)
        equal = float((labels == reference).mean())
        ratios = f"{first.seconds / run.seconds:.1f} | 1/{first.peak_bytes / run.peak_bytes:.1f}"
        quality = f"{equal:.6f} | {dsc(labels, reference)}"
        print(f"| {run.name} | {run.seconds:.1f} | {run.peak_bytes / 2**30:.2f} | {quality} | {ratios} |")
    precisions = {run.report["backend"]["precision"] for run in runs if run.report is not None}
    rates = {name: convolution_rate(getattr(torch, name)) for name in sorted(precisions)}
    print(f"\nconvolution peak, GMAC/s: {', '.join(f'{name} {rate / 1e9:.0f}' for name, rate in rates.items())}\n")
    print("| system | preprocess | network | labelling | the rest | not network | of the peak, as done | as defined |")
    print("|---|---|---|---|---|---|---|---|")
    plain, fused = macs_of_all_windows(shape_xyz)
    for run in runs:
        if run.report is not None:
            seconds = run.report["seconds"]
            stages = " | ".join(f"{seconds[stage]:.1f}" for stage in ("preprocess", "network", "labelling"))
            others = f"{run.seconds - seconds['total']:.1f} | {1 - seconds['network'] / run.seconds:.1%}"
            done = plain if run.report["backend"]["name"] == "torch" else fused
            peak = rates[run.report["backend"]["precision"]] * seconds["network"]
            print(f"| {run.name} | {stages} | {others} | {done / peak:.2f} | {plain / peak:.2f} |")


def dsc(labels: np.ndarray, reference: np.ndarray) -> str:
    """Two columns: mean and lowest DSC of the structures of more than `LEAST_VOXELS` in the reference."""
    counts = np.bincount(reference.ravel())
    present = [label for label in np.flatnonzero(counts > LEAST_VOXELS).tolist() if label]
    scores = list(dice_per_label(labels, reference, present).values())
    return f"{np.mean(scores):.4f} | {np.min(scores):.4f}" if scores else " | "


def macs_of_all_windows(shape_xyz: Sequence[int]) -> tuple[float, float]:
    """Multiply-adds over all windows, of the network as defined and as rewritten, without heads."""
    sizes = zip(reversed(shape_xyz), reversed(SPACING), WINDOW, strict=True)
    grid = [max(round(n * mm / SPACING_MM), window) for n, mm, window in sizes]
    windows = prod(len(starts) for starts in window_starts(grid, WINDOW))
    network = cast(STUNet, twin_of(random_model(CLASSES).networks[0])).eval()
    image = torch.empty(1, 1, *WINDOW, device="meta")
    return windows * count_macs(Features(network), image), windows * count_macs(fuse(network), image)


def labels_of(run: Run) -> np.ndarray:
    """The labels that the command wrote."""
    return np.asanyarray(nibabel.Nifti1Image.from_filename(run.labels).dataobj)


if __name__ == "__main__":
    main()
