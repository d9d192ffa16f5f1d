"""Time by stage and peak memory of predicting many classes on a long CT. The limit is 3 GB (600 slices, 105 classes).

The scan is made from a real one, resampled to 0.8 mm in-plane and 1.5 mm slices, and repeated to 512 x 512 voxels and
the requested number of slices. The model is STU-Net-S with random weights and the published plan; weights do not affect
time and memory. It runs in its own process, whose peak is its VmHWM.

    python bench/inference_memory.py --slices 600 --classes 105 --cache FOLDER
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from make_ct import make_ct

from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import PUBLISHED_STRIDES
from stunet.weights.model import Model
from stunet.weights.model_file import ModelCard
from stunet.weights.published import PUBLISHED_PLAN

IN_PLANE = 512
SPACING_MM = (0.8, 0.8, 1.5)
LIMIT_BYTES = 3e9


def main() -> None:
    """Make the scan, predict in a child process, print the table."""
    arguments = parsed_arguments()
    if arguments.scan is not None:
        print(json.dumps(measured(arguments.scan, arguments.classes, arguments.threads, arguments.step)))
        return
    name = f"ct_{IN_PLANE}x{IN_PLANE}x{arguments.slices}.nii.gz"
    scan = make_ct(arguments.cache / name, (IN_PLANE, IN_PLANE, arguments.slices), SPACING_MM)
    command = [sys.executable, __file__, "--scan", str(scan), "--classes", str(arguments.classes)]
    command += ["--threads", str(arguments.threads), "--step", str(arguments.step)]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print_table(json.loads(child.stdout), arguments)


def parsed_arguments() -> argparse.Namespace:
    """The options; `--scan` is for the child process only."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--classes", type=int, default=105)
    parser.add_argument("--step", type=float, default=0.5, help="1.0 is quicker and needs the same memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "stunet-bench")
    parser.add_argument("--scan", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def random_model(num_classes: int, size: str = "small") -> Model:
    """A published size with random weights."""
    torch.manual_seed(0)
    config = network_spec(size, 1, num_classes, strides=PUBLISHED_STRIDES)
    network = build(config).eval()
    card = ModelCard(
        name="random",
        network=network.spec,
        preprocessing=PUBLISHED_PLAN,
        labels=("background", *(f"class_{label}" for label in range(1, num_classes))),
        channels=("CT",),
    )
    return Model((network,), card, "random")


def measured(scan: Path, num_classes: int, threads: int, step: float) -> dict[str, float]:
    """Predict and save. Returns seconds by stage and peak bytes of this process."""
    torch.set_num_threads(threads)
    before = peak_bytes()
    predictor = Predictor(random_model(num_classes), InferenceConfig(step=step))
    segmentation = predictor.predict(scan, on_window=show_progress)
    segmentation.save(scan.with_name("labels.nii.gz"))
    found = int((segmentation.voxel_counts > 0).sum())
    return {**asdict(segmentation.timings), "found": found, "before": before, "peak": peak_bytes()}


def show_progress(done: int, total: int) -> None:
    """One line on stderr."""
    print(f"\rwindow {done} of {total}", end="" if done < total else "\n", file=sys.stderr, flush=True)


def peak_bytes() -> int:
    """VmHWM of this process: its peak memory (Linux)."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def print_table(result: dict[str, float], asked: argparse.Namespace) -> None:
    """Print the measurements."""
    print(f"STU-Net-S, {asked.classes} classes, {IN_PLANE} x {IN_PLANE} x {asked.slices} CT, step {asked.step}")
    load_average = os.getloadavg()[0]
    print(f"{platform.machine()}, {asked.threads} threads, torch {torch.__version__}, load average {load_average:.1f}")
    for stage in ("load", "preprocess", "network", "labelling"):
        print(f"  {stage:<12}{result[stage]:>9.1f} s")
    print(f"  {'peak memory':<12}{result['peak'] / 1e9:>9.2f} GB, of which {result['before'] / 1e9:.2f} GB are imports")
    print(f"  {result['found']:.0f} labels appear; under {LIMIT_BYTES / 1e9:.0f} GB: {result['peak'] < LIMIT_BYTES}")


if __name__ == "__main__":
    main()
