"""One CT, 105 classes, STU-Net-S: `stunet predict` with each backend, nnU-Net's own command, MONAI's sliding window.

Seconds are from the start of the process to the written file. Peak memory is that of the process and all its children,
sampled ten times a second. Weights are random unless trained ones are given (made by `bench/fit_ct.py`). They do not
affect the network's time and memory. They do affect the labels and the time to compute them: with random weights many
voxels are near ties, and neighbours differ everywhere.

    python bench/inference.py [--folder MODEL_FOLDER | --model FILE.safetensors] [--without-nnunet] [--repeats 2]
        [--systems "openvino float32"]
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import cast

import nibabel
import numpy as np
import psutil
import torch
from agreement import NNUNET_COMMAND, write_nnunet_folder
from inference_memory import random_model
from make_ct import make_ct

from stunet.inference.backends.maps import Features
from stunet.inference.backends.precision import cpu_computes_bfloat16
from stunet.inference.windows import window_starts
from stunet.networks.cost import count_macs
from stunet.networks.fuse import fuse
from stunet.networks.network import twin_of
from stunet.networks.stunet import STUNet
from stunet.training.environment import TRAINER_FOLDER
from stunet.weights.model import load_model

REPOSITORY = Path(__file__).resolve().parents[1]
SHAPE, SPACING = (458, 379, 224), (0.8, 0.8, 1.5)
WINDOW, SPACING_MM = (128, 128, 128), 1.5
CLASSES = 105
CASE = "ct"


@dataclass(frozen=True)
class Run:
    """The measurements of a command.

    Attributes:
        name: of the system.
        seconds: from its start to its end.
        peak_bytes: resident memory of the process and its children.
        labels: the file it wrote.
        report: stunet's record; None for other systems.
    """

    name: str
    seconds: float
    peak_bytes: int
    labels: Path
    report: dict | None = None


def measured(name: str, command: list[str], labels: Path, environment: dict[str, str]) -> Run:
    """Run a command and measure its memory."""
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as log:
        child = psutil.Popen(command, env=environment, stdout=log, stderr=log)
        while child.poll() is None:
            peak = max(peak, tree_bytes(child))
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        if child.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{log.read().decode()[-3000:]}")
    record = labels.with_name(f"{CASE}.report.json")
    return Run(name, seconds, peak, labels, json.loads(record.read_text()) if record.exists() else None)


def tree_bytes(process: psutil.Process) -> int:
    """Resident memory of a process and its children."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


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
    for name in ("openvino float32", "openvino bfloat16", "torch float32", "torch bfloat16"):
        if "bfloat16" not in name or cpu_computes_bfloat16():
            backend, precision = name.split()
            chosen[name] = ["--backend", backend, "--precision", precision]
    return chosen


def main() -> None:
    """Run everything and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--folder", type=Path)
    given.add_argument("--model", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "stunet-bench")
    parser.add_argument("--repeats", type=int, default=2, help="the last counts: the first compiles")
    parser.add_argument("--systems", nargs="+", choices=list(systems()), default=list(systems()))
    parser.add_argument("--without-nnunet", action="store_true")
    options = parser.parse_args()
    scan = make_ct(options.cache / "images" / f"{CASE}_0000.nii.gz", SHAPE, SPACING)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = options.folder or work / "model"
        if options.folder is None:
            model = load_model(options.model) if options.model else random_model(CLASSES)
            write_nnunet_folder(folder, model.networks[0].state_dict(), model.card)
        environment = {**os.environ, "nnUNet_extTrainer": str(TRAINER_FOLDER), "PYTHONPATH": str(REPOSITORY)}
        for name in ("raw", "preprocessed", "results"):
            environment[f"nnUNet_{name}"] = str(work / name)
        runs = ours(scan, folder, work, environment, options)
        if not options.without_nnunet:
            runs.insert(0, nnunet(scan, folder, work, environment))
        if find_spec("monai") is not None:
            runs.insert(1, monai(scan, folder, work, environment))
        print_tables(runs)


def ours(scan: Path, folder: Path, work: Path, environment: dict[str, str], options: argparse.Namespace) -> list[Run]:
    """The last of several runs of each of our systems."""
    runs = []
    for name in options.systems:
        labels = work / name.replace(" ", "_") / f"{CASE}.nii.gz"
        labels.parent.mkdir()
        command = [str(Path(sys.executable).parent / "stunet"), "predict", "-i", str(scan), "-o", str(labels)]
        command += ["-m", str(folder), "--device", "cpu", *systems()[name]]
        for _ in range(options.repeats if "openvino" in name else 1):
            run = measured(f"stunet {name}", command, labels, environment)
            print(f"{run.name}: {run.seconds:.1f} s", file=sys.stderr)
        runs.append(run)
    return runs


def nnunet(scan: Path, folder: Path, work: Path, environment: dict[str, str]) -> Run:
    """nnU-Net's command, without mirroring, with one process per stage."""
    images = work / "images"
    images.mkdir()
    (images / f"{CASE}_0000.nii.gz").symlink_to(scan.resolve())
    command = [sys.executable, "-c", NNUNET_COMMAND, "-i", str(images), "-o", str(work / "nnunet"), "-m", str(folder)]
    command += ["-f", "0", "--disable_tta", "-device", "cpu", "-npp", "1", "-nps", "1"]
    run = measured("nnU-Net 2.8", command, work / "nnunet" / f"{CASE}.nii.gz", environment)
    print(f"{run.name}: {run.seconds:.1f} s", file=sys.stderr)
    return run


def monai(scan: Path, folder: Path, work: Path, environment: dict[str, str]) -> Run:
    """MONAI's sliding window with the same network, in float32."""
    labels = work / "monai" / f"{CASE}.nii.gz"
    labels.parent.mkdir()
    script = Path(__file__).with_name("monai_windows.py")
    run = measured(
        "MONAI's inferer", [sys.executable, str(script), str(scan), str(folder), str(labels)], labels, environment
    )
    print(f"{run.name}: {run.seconds:.1f} s", file=sys.stderr)
    return run


def print_tables(runs: list[Run]) -> None:
    """Print seconds, memory and agreement, then our stages and the fraction of the convolution peak."""
    first = runs[0]
    print(f"CT of {'x'.join(map(str, SHAPE))} voxels, {CLASSES} classes, STU-Net-S, step 0.5, no mirroring")
    print(f"{os.cpu_count()} processors, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}\n")
    print(f"| system | seconds | peak GiB | equal labels | times faster than {first.name} | of its memory |")
    print("|---|---|---|---|---|---|")
    reference = labels_of(first)
    for run in runs:
        equal = float((labels_of(run) == reference).mean())
        ratios = f"{first.seconds / run.seconds:.1f} | 1/{first.peak_bytes / run.peak_bytes:.1f}"
        print(f"| {run.name} | {run.seconds:.1f} | {run.peak_bytes / 2**30:.2f} | {equal:.6f} | {ratios} |")
    rates = {name: convolution_rate(getattr(torch, name)) for name in ("float32", "bfloat16")}
    print(f"\nconvolution peak, GMAC/s: {', '.join(f'{name} {rate / 1e9:.0f}' for name, rate in rates.items())}\n")
    print("| system | preprocess | network | labelling | the rest | not network | of the peak, as done | as defined |")
    print("|---|---|---|---|---|---|---|---|")
    plain, fused = macs_of_all_windows()
    for run in runs:
        if run.report is not None:
            seconds = run.report["seconds"]
            stages = " | ".join(f"{seconds[stage]:.1f}" for stage in ("preprocess", "network", "labelling"))
            others = f"{run.seconds - seconds['total']:.1f} | {1 - seconds['network'] / run.seconds:.1%}"
            done = fused if run.report["backend"]["name"] == "openvino" else plain
            peak = rates[run.report["backend"]["precision"]] * seconds["network"]
            print(f"| {run.name} | {stages} | {others} | {done / peak:.2f} | {plain / peak:.2f} |")


def macs_of_all_windows() -> tuple[float, float]:
    """Multiply-adds over all windows, of the network as defined and as rewritten, without heads."""
    grid = [round(n * mm / SPACING_MM) for n, mm in zip(reversed(SHAPE), reversed(SPACING), strict=True)]
    windows = prod(len(starts) for starts in window_starts(grid, WINDOW))
    network = cast(STUNet, twin_of(random_model(CLASSES).networks[0])).eval()
    image = torch.empty(1, 1, *WINDOW, device="meta")
    return windows * count_macs(Features(network), image), windows * count_macs(fuse(network), image)


def labels_of(run: Run) -> np.ndarray:
    """The labels that the command wrote."""
    return np.asanyarray(nibabel.Nifti1Image.from_filename(run.labels).dataobj)


if __name__ == "__main__":
    main()
