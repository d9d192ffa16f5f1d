"""The inference backends by name. A new one is one more line here."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch

from stunet.errors import UserError
from stunet.inference.backends.base import Backend
from stunet.inference.backends.compiled_torch_backend import CompiledTorchBackend
from stunet.inference.backends.onnx_backend import OnnxBackend
from stunet.inference.backends.openvino_backend import OpenVinoBackend
from stunet.inference.backends.precision import Precision
from stunet.inference.backends.torch_backend import TorchBackend
from stunet.networks.network import Network
from stunet.networks.stunet import STUNet

BackendMaker = Callable[[Sequence[Any], torch.device, Precision, Sequence[int]], Backend]
"""Makes a backend from networks, a device, a precision and the size of the windows (Z, Y, X)."""

BACKENDS: dict[str, BackendMaker] = {
    "torch": TorchBackend,
    "openvino": OpenVinoBackend,
    "onnx": OnnxBackend,
}
"""By name."""

COMPILED: dict[str, BackendMaker] = {"torch": CompiledTorchBackend}
"""By name, those that compile when they are asked to."""


def backend_maker(
    name: str, device: torch.device, compiled: bool, networks: Sequence[Network] = ()
) -> tuple[str, BackendMaker]:
    """A backend's name and maker.

    Args:
        name: one of `BACKENDS`, or "auto" for the fastest that is installed, or the one in `COMPILED`.
        device: where it is to run.
        compiled: whether torch is to compile the network.
        networks: that are to run; torch alone runs others than STU-Nets.

    Raises:
        UserError: a backend that compiles in its own way is to be compiled by torch, or to run another network.
    """
    only_torch = any(not isinstance(network, STUNet) for network in networks)
    if name == "auto":
        name = "torch" if only_torch or compiled else fastest_backend(device)
    if only_torch and name != "torch":
        raise UserError(f"Backend {name!r} runs STU-Nets only; take --backend torch for this model.")
    if compiled and name not in COMPILED:
        raise UserError(
            f"Backend {name!r} always compiles its network, in its own way; --compile is for --backend "
            f"{', '.join(COMPILED)}. Leave one of them out."
        )
    return name, (COMPILED if compiled else BACKENDS)[name]


def fastest_backend(device: torch.device) -> str:
    """OpenVINO on a CPU where all that it needs is installed, else torch."""
    has_openvino = all(find_spec(package) is not None for package in ("openvino", "onnx"))
    return "openvino" if device.type == "cpu" and has_openvino else "torch"
