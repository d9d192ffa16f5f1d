"""How much memory a prediction takes, before it is tried: weights, one window, and the slab that it is added to."""

from bisect import bisect_right
from dataclasses import dataclass

import torch

from stunet.inference.accumulator import SlabAccumulator
from stunet.inference.backends.precision import Precision
from stunet.inference.backends.torch_backend import TorchBackend
from stunet.inference.mirroring import run_mirrored
from stunet.networks.memory import Ledger, bytes_of, without_memory
from stunet.networks.network import product_of
from stunet.networks.registry import build
from stunet.plans.network_spec import NetworkSpec

Window = tuple[int, int, int]

PROCESS_BYTES = 400_000_000
"""What a process takes beside its tensors: on a CPU torch itself (bench/prediction_memory.py)."""

LONGEST_EDGE = 512
"""Larger windows are not looked for."""

TYPICAL_PLANE = (288, 288)
"""Rows and columns of a body CT at 1.5 mm, the published models' spacing: 432 mm."""


@dataclass(frozen=True)
class PredictionMemory:
    """Bytes at the moment when a prediction takes the most, torch's own and the scan's labels apart.

    Attributes:
        weights: float32.
        windows: all else: features of one window, the slab of mean features, the slab of the image.
    """

    weights: int
    windows: int

    @property
    def peak(self) -> int:
        """All of it."""
        return self.weights + self.windows


def prediction_memory(
    spec: NetworkSpec,
    window: Window,
    precision: Precision = "float32",
    plane: tuple[int, int] = TYPICAL_PLANE,
) -> PredictionMemory:
    """What a prediction takes with the torch backend, one window at a time; the length of the scan does not matter.

    It is found by running a window on tensors without memory; precisions are those of CPUs, and float16 takes what
    bfloat16 takes.

    Args:
        spec: of an STU-Net.
        window: voxels (Z, Y, X), divisible by the strides' product.
        precision: of the network.
        plane: rows and columns of the image on the network's grid; at least the window's are taken.
    """
    depth, rows, columns = window
    image_size = depth, max(rows, plane[0]), max(columns, plane[1])
    with without_memory():
        network = build(spec).eval()
        backend = TorchBackend([network], torch.device("cpu"), "float32" if precision == "float32" else "bfloat16")
        with Ledger(network.parameters()) as ledger, torch.inference_mode():
            means = SlabAccumulator(backend.head.num_features, image_size, torch.ones(window))
            image_CZYX = torch.zeros(spec.input_channels, *image_size)
            window_BCZYX = image_CZYX[None, :, :, :rows, :columns].clone()
            means.add(run_mirrored(backend, window_BCZYX, axes=())[0], (0, 0, 0))
            next(means.release(1))
        return PredictionMemory(bytes_of(network.parameters()), ledger.peak_bytes)


def needed_bytes(spec: NetworkSpec, window: Window, precision: Precision = "float32") -> int:
    """What a process needs to predict a typical body CT: its tensors, and `PROCESS_BYTES`."""
    return prediction_memory(spec, window, precision).peak + PROCESS_BYTES


def largest_window(spec: NetworkSpec, available_bytes: int, precision: Precision = "float32") -> Window | None:
    """The largest window of equal edges with which a prediction fits; None if none does."""
    multiple = max(product_of(spec.arguments["strides"]))
    windows = [(edge, edge, edge) for edge in range(2 * multiple, LONGEST_EDGE + 1, multiple)]
    number = bisect_right(windows, available_bytes, key=lambda window: needed_bytes(spec, window, precision))
    return windows[number - 1] if number else None
