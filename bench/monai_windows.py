"""MONAI's `SlidingWindowInferer` for `bench/inference.py`, with the same network on the same prepared image.

The network runs by torch, or by ONNX Runtime if it is an ONNX file.

MONAI does not preprocess or restore. So stunet prepares the image, and labels are computed on the network's grid and
resampled to the scan's by nearest neighbour. This is faster and less accurate than the other systems.

    python bench/monai_windows.py SCAN MODEL_FOLDER LABELS [MODEL_FOLDER | NETWORK.onnx]
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from torch.nn import functional

from stunet.imaging.formats.registry import read_volume, write_labels
from stunet.imaging.preprocess import cropped_view, preprocess
from stunet.inference.backends.onnx_backend import session_options
from stunet.inference.onnx_graph import INPUT
from stunet.weights.model import load_model


@torch.inference_mode()
def main() -> None:
    """Predict one scan."""
    scan_path, folder, labels_path, *network = sys.argv[1:]
    model, scan = load_model(folder), read_volume(scan_path)
    image_CZYX, record = preprocess(scan, model.plan)
    inferer = SlidingWindowInferer(model.plan.patch_size, sw_batch_size=1, overlap=0.5, mode="gaussian")
    is_onnx = bool(network) and network[0].endswith(".onnx")
    logits_BKZYX = inferer(image_CZYX[None], by_onnx_runtime(network[0]) if is_onnx else model.networks[0])
    labels_ZYX = logits_BKZYX[0].argmax(dim=0).to(torch.uint8)
    del logits_BKZYX
    scaled = functional.interpolate(labels_ZYX[None, None], record.cropped_shape, mode="nearest-exact")[0, 0]
    restored_ZYX = np.zeros(record.scan_shape, np.uint8)
    cropped_view(restored_ZYX, record)[:] = scaled.numpy()
    write_labels(restored_ZYX, scan, labels_path, model.names)


def by_onnx_runtime(path: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from windows to logits."""
    from onnxruntime import InferenceSession

    session = InferenceSession(path, session_options(), providers=["CPUExecutionProvider"])

    def run(windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """Run the network."""
        return torch.from_numpy(session.run(None, {INPUT: windows_BCZYX.contiguous().numpy()})[0])

    return run


if __name__ == "__main__":
    main()
