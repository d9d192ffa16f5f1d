"""What `--classes` costs and what it changes: a first pass that finds the structures, against the whole scan.

The scan is the shared CT, resampled to 0.8 mm with 1.5 mm slices, with air around it and its first and last slice
repeated, so that each organ is there once. Without a model, windows are counted: those of a network that finds the
structures where the reference labels have them. A model is one that was fitted to this CT (`bench/fit_ct.py`).

    python bench/some_structures.py [--model ct.safetensors] [--slices 600 1500] [--structures liver ...]
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from inference_memory import IN_PLANE, SPACING_MM
from make_ct import one_ct

from stunet.imaging.formats.registry import read_labels
from stunet.imaging.volume import Volume
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.inference.search import MARGIN_MM
from stunet.inference.segmentation import Segmentation
from stunet.inference.windows import Windows
from stunet.labels.ontology import LABELS

SHARED = Path(os.environ.get("STUNET_SHARED", Path(__file__).resolve().parents[2] / "shared"))

GRID_MM, WINDOW = 1.5, (128, 128, 128)
"""Of the published plan."""

STRUCTURES = ("liver", "spleen", "kidney_left+kidney_right", "vertebrae_L3")


@dataclass(frozen=True)
class Run:
    """One prediction and its seconds."""

    segmentation: Segmentation
    seconds: float


def long_scan(slices: int) -> Volume:
    """The CT in the middle of a longer scan."""
    one_ZYX = one_ct(SPACING_MM).T
    missing = [(n - have) for n, have in zip((slices, IN_PLANE, IN_PLANE), one_ZYX.shape, strict=True)]
    around = [(n // 2, n - n // 2) for n in missing]
    wide_ZYX = np.pad(one_ZYX, [(0, 0), *around[1:]], constant_values=-1000)
    array_ZYX = np.pad(wide_ZYX, [around[0], (0, 0), (0, 0)], mode="edge")
    return Volume.from_array(array_ZYX, np.diag([*SPACING_MM, 1.0]))


def counted(slices: int, names: Sequence[str]) -> tuple[int, int, int]:
    """The windows of the first pass, of the second, and of the whole scan, on a grid of 1.5 mm.

    Args:
        slices: of the long scan.
        names: of the structures.
    """
    labels = read_labels(SHARED / "data" / "totalseg_example" / "labels_stunet104.nii.gz")
    spacing_zyx, size_zyx = SPACING_MM[::-1], (slices, IN_PLANE, IN_PLANE)
    scan_mm = [n * mm for n, mm in zip(size_zyx, spacing_zyx, strict=True)]
    own_mm = np.linalg.norm(labels.affine[:3, :3], axis=0)[::-1]
    shape = [round(mm / GRID_MM) for mm in scan_mm]
    boxes = []
    for name in names:
        places = np.nonzero(labels.array[0] == LABELS.index(name))
        ranges = []
        for axis, (place, mm, whole, n) in enumerate(zip(places, own_mm, scan_mm, shape, strict=True)):
            before = (whole - labels.array.shape[axis + 1] * mm) / 2
            low, high = before + place.min() * mm - MARGIN_MM, before + (place.max() + 1) * mm + MARGIN_MM
            ranges.append((max(0, int(low / GRID_MM)), min(n, ceil(high / GRID_MM))))
        boxes.append((ranges[0], ranges[1], ranges[2]))
    every = Windows(shape, WINDOW)
    return len(Windows(shape, WINDOW, 1.0)), len(Windows(shape, WINDOW, boxes=boxes)), len(every)


def count(all_slices: Sequence[int], structures: Sequence[str]) -> None:
    """Print the numbers of windows."""
    print("| slices | structures | first pass | second | whole scan | times fewer |\n|---|---|---|---|---|---|")
    for slices in all_slices:
        for names in structures:
            first, second, every = counted(slices, names.split("+"))
            fewer = every / (first + second)
            print(f"| {slices} | {names.replace('+', ' ')} | {first} | {second} | {every} | {fewer:.2f} |")


def run(model: str, scan: Volume, classes: tuple[str, ...], whole_scan: bool) -> Run:
    """Predict with a predictor that is ready."""
    predictor = Predictor(model, InferenceConfig(classes=classes, whole_scan=whole_scan))
    start = time.perf_counter()
    return Run(predictor.predict(scan), time.perf_counter() - start)


def dsc(labels_ZYX: np.ndarray, reference_ZYX: np.ndarray) -> float:
    """Of everything that is labelled; nan where both are empty."""
    sizes = int((labels_ZYX > 0).sum() + (reference_ZYX > 0).sum())
    return 2 * int(((labels_ZYX == reference_ZYX) & (labels_ZYX > 0)).sum()) / sizes if sizes else float("nan")


def main() -> None:
    """Print one row for each scan and set of structures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--slices", type=int, nargs="+", default=[600, 1500])
    parser.add_argument("--structures", nargs="+", default=STRUCTURES, help="several that are found together with +")
    asked = parser.parse_args()
    if asked.model is None:
        count(asked.slices, asked.structures)
        return
    print("| slices | structures | windows | of | seconds | whole scan | times faster | ml | equal labels | DSC |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for slices in asked.slices:
        scan = long_scan(slices)
        for names in asked.structures:
            classes = tuple(names.split("+"))
            full, quick = (run(asked.model, scan, classes, whole_scan) for whole_scan in (True, False))
            labels, reference = quick.segmentation.labels, full.segmentation.labels
            found = quick.segmentation.search
            assert found is not None
            windows, every = len(found.windows), len(found.windows) + len(found.windows.left_out)
            print(
                f"| {slices} | {' '.join(classes)} | {found.first_pass} + {windows} | {every} | {quick.seconds:.1f} "
                f"| {full.seconds:.1f} | {full.seconds / quick.seconds:.2f} "
                f"| {sum(full.segmentation.volumes_mm3().values()) / 1000:.0f} "
                f"| {np.mean(labels == reference):.6f} | {dsc(labels, reference):.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
