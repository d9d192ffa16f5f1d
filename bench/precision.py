"""Effect of a precision on labels: DSC of each structure against the same network in float32, on the shared CT.

The network must be able to segment (`bench/fit_ct.py` makes one). Near-ties of random weights would tell nothing.

    python bench/precision.py --model ct.safetensors [--backend openvino] [--precision bfloat16] [--threads 2]
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch

from stunet.evaluation.dice import dice_per_label, mean_ignoring_nan
from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.weights.model import load_model

REPOSITORY = Path(__file__).resolve().parents[1]
BAR, LEAST_VOXELS = 0.995, 100
FOUND_DSC = 0.5
"""Minimum DSC for a structure to count as found."""


def main() -> None:
    """Predict twice and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data" / "totalseg_example")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model, scan = load_model(asked.model), read_volume(asked.data / "ct.nii.gz")
    truth_ZYX = read_labels(asked.data / "labels_stunet104.nii.gz").array[0]
    exact_ZYX, other_ZYX = (
        Predictor(model, InferenceConfig(backend=asked.backend, precision=precision)).predict(scan).labels
        for precision in ("float32", asked.precision)
    )
    counts = np.bincount(exact_ZYX.ravel(), minlength=len(model.names))
    labels = [label for label in model.names if label and counts[label] > LEAST_VOXELS]
    agreement = dice_per_label(other_ZYX, exact_ZYX, labels)
    quality = dice_per_label(exact_ZYX, truth_ZYX, [label for label in model.names if label])
    print(f"{asked.backend}, {asked.precision} against float32; {'x'.join(map(str, scan.shape[::-1]))} voxels\n")
    print("| structure | voxels | DSC of float32 against the reference | DSC between the precisions |")
    print("|---|---|---|---|")
    for label in labels:
        print(f"| {model.names[label]} | {counts[label]} | {quality[label]:.3f} | {agreement[label]:.4f} |")
    found = sum(dsc >= FOUND_DSC for dsc in quality.values())
    print(f"\n{found} of {len(np.unique(truth_ZYX)) - 1} structures found (DSC {FOUND_DSC} or more), mean DSC ", end="")
    print(f"{mean_ignoring_nan(list(quality.values())):.3f}; equal voxels {(exact_ZYX == other_ZYX).mean():.6f}")
    worst = min(agreement, key=lambda label: agreement[label])
    mean = mean_ignoring_nan(list(agreement.values()))
    print(f"lowest agreement {agreement[worst]:.4f} ({model.names[worst]}), mean {mean:.4f}; ", end="")
    print(f"{sum(dsc >= BAR for dsc in agreement.values())} of {len(labels)} structures reach {BAR}")


if __name__ == "__main__":
    main()
