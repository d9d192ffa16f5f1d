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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from inference_memory import IN_PLANE, SPACING_MM
from make_ct import one_ct
from scipy import ndimage

from stunet.imaging.formats.registry import read_labels
from stunet.imaging.preprocess import prepare
from stunet.imaging.volume import Volume
from stunet.inference.backends.names import Precision
from stunet.inference.head import LinearHead
from stunet.inference.known_features import KnownFeatures
from stunet.inference.labelling import AskedChooser
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.inference.search import Search, search
from stunet.inference.segmentation import Segmentation
from stunet.inference.sliding import Sliding
from stunet.labels.ontology import LABELS
from stunet.plans.preprocessing import ChannelNormalization
from stunet.weights.published import PUBLISHED_PLAN

SHARED = Path(os.environ.get("STUNET_SHARED", Path(__file__).resolve().parents[2] / "shared"))

GRID_MM, WINDOW = 1.5, (128, 128, 128)
"""Of the published plan."""

STRUCTURES = ("liver", "spleen", "kidney_left+kidney_right", "vertebrae_L3", "aorta", "colon")


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


class LabelReader:
    """A backend for an image whose values are labels: it sees them without error."""

    name, device, allocates_by_torch = "labels", torch.device("cpu"), False
    precision: Precision = "float32"

    def __init__(self) -> None:
        numbers = torch.arange(len(LABELS), dtype=torch.float32)
        self.head = LinearHead(numbers[:, None], -(numbers**2) / 2)  # the highest logit is that of the nearest number

    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The labels as one feature (B, Z, Y, X, 1)."""
        return windows_BCZYX.movedim(1, -1)


def long_labels(slices: int) -> Volume:
    """The reference labels at 1.5 mm in the middle of a longer scan, with background 0.2, since 0 is cut off."""
    labels = read_labels(SHARED / "data" / "totalseg_example" / "labels_stunet104.nii.gz")
    own_mm = np.linalg.norm(labels.affine[:3, :3], axis=0)[::-1]
    small_ZYX = ndimage.zoom(labels.array[0].astype(np.float32), own_mm / GRID_MM, order=0)
    scan_mm = np.array((slices, IN_PLANE, IN_PLANE)) * SPACING_MM[::-1]
    array_ZYX = np.full(np.round(scan_mm / GRID_MM).astype(int), 0.2, np.float32)
    starts = [(n - m) // 2 for n, m in zip(array_ZYX.shape, small_ZYX.shape, strict=True)]
    here = tuple(slice(start, start + m) for start, m in zip(starts, small_ZYX.shape, strict=True))
    array_ZYX[here] = np.maximum(small_ZYX, 0.2)
    return Volume.from_array(array_ZYX.T, np.diag([GRID_MM] * 3 + [1.0]))


def counted(slices: int, names: Sequence[str]) -> Search:
    """What a search gives on a grid of 1.5 mm.

    Args:
        slices: of the long scan.
        names: of the structures.
    """
    prepared = prepare(long_labels(slices), replace(PUBLISHED_PLAN, normalization=(ChannelNormalization("none"),)))
    backend, asked = LabelReader(), [LABELS.index(name) for name in names]
    chooser = AskedChooser(backend.head, asked)
    found = search(prepared, prepared.record, backend, Sliding(WINDOW), chooser, asked, True, KnownFeatures())
    assert found is not None
    return found


def windows_of(found: Search) -> tuple[int, int, int]:
    """The windows of the first pass, the further ones of the second, and those of the whole scan."""
    return found.first_pass, len(found.windows) - found.known, len(found.windows) + len(found.windows.left_out)


def count(all_slices: Sequence[int], structures: Sequence[str]) -> None:
    """Print the numbers of windows."""
    print("| slices | structures | first pass | second | whole scan | times fewer |\n|---|---|---|---|---|---|")
    for slices in all_slices:
        for names in structures:
            first, second, every = windows_of(counted(slices, names.split("+")))
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
            first, second, every = windows_of(found)
            print(
                f"| {slices} | {' '.join(classes)} | {first} + {second} | {every} | {quick.seconds:.1f} "
                f"| {full.seconds:.1f} | {full.seconds / quick.seconds:.2f} "
                f"| {sum(full.segmentation.volumes_mm3().values()) / 1000:.0f} "
                f"| {np.mean(labels == reference):.6f} | {dsc(labels, reference):.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
