"""Compute the memory of a prediction in advance: weights, one window, and the slab of mean features."""

from bisect import bisect_right
from dataclasses import dataclass

import torch

from stunet.inference.accumulator import SlabAccumulator
from stunet.inference.backends.precision import Precision
from stunet.inference.backends.torch_backend import TorchBackend
from stunet.inference.mirroring import run_mirrored
from stunet.networks.memory import AllocationLog, bytes_of, without_memory
from stunet.networks.network import product_of
from stunet.networks.registry import build
from stunet.plans.network_spec import NetworkSpec

Window = tuple[int, int, int]

PROCESS_BYTES = 400_000_000
"""Memory of a process besides its tensors; on a CPU this is torch itself (bench/prediction_memory.py)."""

LONGEST_EDGE = 512
"""The largest window edge that is considered."""

TYPICAL_PLANE = (288, 288)
"""Rows and columns of a body CT (432 mm) at 1.5 mm, the published models' spacing."""


@dataclass(frozen=True)
class PredictionMemory:
    """Peak memory of a prediction in bytes, without torch itself and the scan's labels.

    Attributes:
        weights: weights in float32.
        windows: everything else: features of one window, the slab of mean features, the slab of the image.
    """

    weights: int
    windows: int

    @property
    def peak(self) -> int:
        """Their sum."""
        return self.weights + self.windows


def prediction_memory(
    spec: NetworkSpec,
    window: Window,
    precision: Precision = "float32",
    plane: tuple[int, int] = TYPICAL_PLANE,
) -> PredictionMemory:
    """The memory of a prediction with the torch backend, one window at a time. The scan's length does not matter.

    It is found by running a window on tensors without data, with the precisions of CPUs; float16 takes as much as
    bfloat16.

    Args:
        spec: spec of an STU-Net.
        window: voxels (Z, Y, X), divisible by the strides' product.
        precision: precision of the network.
        plane: rows and columns of the image on the network's grid; enlarged to the window if smaller.
    """
    depth, rows, columns = window
    image_size = depth, max(rows, plane[0]), max(columns, plane[1])
    with without_memory():
        network = build(spec).eval()
        backend = TorchBackend([network], torch.device("cpu"), "float32" if precision == "float32" else "bfloat16")
        with AllocationLog(network.parameters()) as log, torch.inference_mode():
            means = SlabAccumulator(backend.head.num_features, image_size, torch.ones(window))
            image_CZYX = torch.zeros(spec.input_channels, *image_size)
            window_BCZYX = image_CZYX[None, :, :, :rows, :columns].clone()
            means.add(run_mirrored(backend, window_BCZYX, axes=())[0], (0, 0, 0))
            next(means.release(1))
        return PredictionMemory(bytes_of(network.parameters()), log.peak_bytes)


def needed_bytes(spec: NetworkSpec, window: Window, precision: Precision = "float32") -> int:
    """The memory of a process that predicts a typical body CT: its tensors and `PROCESS_BYTES`."""
    return prediction_memory(spec, window, precision).peak + PROCESS_BYTES


def largest_window(spec: NetworkSpec, available_bytes: int, precision: Precision = "float32") -> Window | None:
    """The largest cubic window with which a prediction fits into memory; None if none fits."""
    multiple = max(product_of(spec.arguments["strides"]))
    windows = [(edge, edge, edge) for edge in range(2 * multiple, LONGEST_EDGE + 1, multiple)]
    number = bisect_right(windows, available_bytes, key=lambda window: needed_bytes(spec, window, precision))
    return windows[number - 1] if number else None
