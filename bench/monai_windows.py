"""MONAI's `SlidingWindowInferer` for `bench/inference.py`, with the same network on the same prepared image.

MONAI does not preprocess or restore. So stunet prepares the image, and labels are computed on the network's grid and
resampled to the scan's by nearest neighbour. This is faster and less accurate than the other systems.

    python bench/monai_windows.py SCAN MODEL_FOLDER LABELS
"""

import sys

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from torch.nn import functional

from stunet.imaging.formats.registry import read_volume, write_labels
from stunet.imaging.preprocess import cropped_view, preprocess
from stunet.weights.model import load_model


@torch.inference_mode()
def main() -> None:
    """Predict one scan."""
    scan_path, folder, labels_path = sys.argv[1:]
    model, scan = load_model(folder), read_volume(scan_path)
    image_CZYX, record = preprocess(scan, model.plan)
    inferer = SlidingWindowInferer(model.plan.patch_size, sw_batch_size=1, overlap=0.5, mode="gaussian")
    logits_BKZYX = inferer(image_CZYX[None], model.networks[0])
    labels_ZYX = logits_BKZYX[0].argmax(dim=0).to(torch.uint8)
    del logits_BKZYX
    scaled = functional.interpolate(labels_ZYX[None, None], record.cropped_shape, mode="nearest-exact")[0, 0]
    restored_ZYX = np.zeros(record.scan_shape, np.uint8)
    cropped_view(restored_ZYX, record)[:] = scaled.numpy()
    write_labels(restored_ZYX, scan, labels_path, model.names)


if __name__ == "__main__":
    main()
