"""Time and peak memory of a prediction by length of the scan, and by number of classes.

Scans of 512 x 512 voxels at 0.8 mm with 1.5 mm slices are made once from a real one, and cached. Weights are random,
which does not affect time and memory. Each point is read, segmented and saved in its own process. If the backend must
convert the model, another process does that first. Peak memory is VmHWM, because Linux's ru_maxrss would include the
parent's memory.

    python bench/scaling.py [--lengths 100 300 600 1000 1500] [--classes 2 20 105 500] [--size small] [--step 0.5]
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from inference_memory import IN_PLANE, SPACING_MM, peak_bytes, random_model, show_progress
from make_ct import make_ct

from stunet.inference.backends.registry import BACKENDS
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.networks.stunet import SIZES

Answer = TypeVar("Answer")

STAGES = ("load", "preprocess", "network", "labelling", "save")
SLICE_BYTES = IN_PLANE * IN_PLANE * (np.dtype(np.int16).itemsize + np.dtype(np.uint8).itemsize)
"""Bytes of one slice of the scan plus one slice of the labels."""


@dataclass(frozen=True)
class Setting:
    """One point.

    Attributes:
        slices: of the scan.
        classes: of the model, including background.
        size: of the STU-Net.
        step: between windows, as a fraction of the window.
        threads: of the network.
        backend: an option of `stunet predict`.
    """

    slices: int
    classes: int
    size: str
    step: float
    threads: int
    backend: str


@dataclass(frozen=True)
class Measured:
    """The measurements of a prediction.

    Attributes:
        setting: its point.
        seconds: by stage.
        peak_bytes: the peak memory of its process.
        backend: what ran the network.
    """

    setting: Setting
    seconds: dict[str, float]
    peak_bytes: int
    backend: str

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


def in_fresh_process(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """Call a function of a module in a new Python process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def make_predictor(setting: Setting) -> Predictor:
    """A predictor with random weights, on the CPU."""
    torch.set_num_threads(setting.threads)
    config = InferenceConfig(step=setting.step, device="cpu", backend=setting.backend)
    return Predictor(random_model(setting.classes, setting.size), config)


def convert_model(setting: Setting) -> None:
    """Fill the backend's cache, so that the measured process only reads it, like every call after the first."""
    make_predictor(setting)


def predict(setting: Setting, scan: Path) -> Measured:
    """Read, segment and save in this process."""
    predictor = make_predictor(setting)
    with tempfile.TemporaryDirectory() as folder:
        segmentation = predictor.predict(scan, on_window=show_progress)
        start = time.perf_counter()
        segmentation.save(Path(folder) / "labels.nii.gz")
        seconds = {**asdict(segmentation.timings), "save": time.perf_counter() - start}
    return Measured(setting, seconds, peak_bytes(), f"{predictor.backend.name} {predictor.backend.precision}")


def measure(setting: Setting, cache: Path, suffix: str) -> Measured:
    """Measure one point. Scan, model and prediction each run in their own process."""
    scan = cache / f"ct_{IN_PLANE}x{IN_PLANE}x{setting.slices}{suffix}"
    in_fresh_process(make_ct, scan, (IN_PLANE, IN_PLANE, setting.slices), SPACING_MM)
    in_fresh_process(convert_model, setting)
    return in_fresh_process(predict, setting, scan)


def bytes_per_slice(points: Sequence[Measured]) -> float:
    """Slope of a least-squares line through slices and peak memory."""
    slices = [point.setting.slices for point in points]
    slope, _ = np.polyfit(slices, [point.peak_bytes for point in points], 1)
    return float(slope)


def print_table(points: Sequence[Measured], varied: str) -> None:
    """Print one row per point. `varied` is the field of `Setting` that differs."""
    print(f"| {varied} | {' | '.join(STAGES)} | seconds | seconds per 100 slices | peak GB |")
    print("|---" * (len(STAGES) + 4) + "|")
    for point in points:
        stages = " | ".join(f"{point.seconds[stage]:.1f}" for stage in STAGES)
        rate = 100 * point.total / point.setting.slices
        print(
            f"| {getattr(point.setting, varied)} | {stages} | {point.total:.1f} | {rate:.1f} "
            f"| {point.peak_bytes / 1e9:.2f} |"
        )


def parsed_arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="*", default=[100, 300, 600, 1000, 1500], metavar="SLICES")
    parser.add_argument("--classes", type=int, nargs="*", default=[2, 20, 105, 500])
    parser.add_argument("--classes-for-lengths", type=int, default=105, metavar="CLASSES")
    parser.add_argument("--length-for-classes", type=int, default=300, metavar="SLICES")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--step", type=float, default=0.5, help="1.0 is quicker and needs the same memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--backend", choices=("auto", *BACKENDS), default="auto")
    parser.add_argument("--uncompressed", action="store_true", help="scans as .nii, which are not held in memory")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "stunet-bench")
    return parser.parse_args()


def main() -> None:
    """Measure all points and print two tables."""
    options = parsed_arguments()
    os.environ.setdefault("STUNET_HOME", str(options.cache / "home"))
    suffix = ".nii" if options.uncompressed else ".nii.gz"
    common = (options.size, options.step, options.threads, options.backend)
    print(
        f"STU-Net {options.size}, {IN_PLANE} x {IN_PLANE} CT ({suffix}), step {options.step}, {options.threads} threads"
    )
    print(f"{platform.machine()}, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}", flush=True)
    if options.lengths:
        classes = options.classes_for_lengths
        settings = [Setting(slices, classes, *common) for slices in options.lengths]
        points = [measure(setting, options.cache, suffix) for setting in settings]
        print(f"\n{points[0].backend}, {classes} classes, scans of several lengths\n")
        print_table(points, "slices")
        if len(set(options.lengths)) > 1:
            slope = bytes_per_slice(points)
            print(f"\npeak memory grows by {slope:,.0f} bytes per slice (fitted); ", end="")
            print(f"a slice of the scan (int16) and of the labels (uint8) takes {SLICE_BYTES:,}", flush=True)
    if options.classes:
        slices = options.length_for_classes
        settings = [Setting(slices, classes, *common) for classes in options.classes]
        points = [measure(setting, options.cache, suffix) for setting in settings]
        print(f"\n{points[0].backend}, {slices} slices, models of several numbers of classes\n")
        print_table(points, "classes")


if __name__ == "__main__":
    main()
