"""What can run the network; a new backend is one more line here."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch

from stunet.inference.backends.base import Backend
from stunet.inference.backends.onnx_backend import OnnxBackend
from stunet.inference.backends.openvino_backend import OpenVinoBackend
from stunet.inference.backends.precision import Precision
from stunet.inference.backends.torch_backend import TorchBackend
from stunet.networks.stunet import STUNet

BackendMaker = Callable[[Sequence[STUNet], torch.device, Precision, Sequence[int]], Backend]
"""Makes a backend from networks, a device, a precision and the size of the windows (Z, Y, X)."""

BACKENDS: dict[str, BackendMaker] = {
    "torch": TorchBackend,
    "openvino": OpenVinoBackend,
    "onnx": OnnxBackend,
}
"""By name."""


def fastest_backend(device: torch.device) -> str:
    """OpenVINO on a CPU where all that it needs is installed, else torch."""
    has_openvino = all(find_spec(package) is not None for package in ("openvino", "onnx"))
    return "openvino" if device.type == "cpu" and has_openvino else "torch"
