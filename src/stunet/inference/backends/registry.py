"""The inference backends by name. A new one needs one more line here."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from stunet.errors import UserError
from stunet.inference.backends.base import Backend
from stunet.inference.backends.compiled_torch_backend import CompiledTorchBackend
from stunet.inference.backends.names import Precision, has_openvino
from stunet.inference.backends.onnx_backend import OnnxBackend
from stunet.inference.backends.openvino_backend import OpenVinoBackend
from stunet.inference.backends.torch_backend import TorchBackend
from stunet.networks.network import Network
from stunet.networks.stunet import STUNet

BackendMaker = Callable[[Sequence[Any], torch.device, Precision, Sequence[int]], Backend]
"""Creates a backend from networks, a device, a precision and the window size (Z, Y, X)."""

BACKENDS: dict[str, BackendMaker] = {
    "torch": TorchBackend,
    "openvino": OpenVinoBackend,
    "onnx": OnnxBackend,
}
"""All backends by name, see `stunet.inference.backends.names`."""

COMPILED: dict[str, BackendMaker] = {"torch": CompiledTorchBackend}
"""Backends by name that compile on request."""


def backend_maker(
    name: str, device: torch.device, compiled: bool, networks: Sequence[Network] = ()
) -> tuple[str, BackendMaker]:
    """The name and maker of a backend.

    Args:
        name: one of `BACKENDS`, or "auto" for the fastest installed one, or for the one in `COMPILED`.
        device: device to run on.
        compiled: whether torch compiles the network.
        networks: networks to run; only torch runs networks other than STU-Net.

    Raises:
        UserError: the backend does not run this network, or cannot be compiled by torch.
    """
    only_torch = any(not isinstance(network, STUNet) for network in networks)
    if name == "auto":
        name = "torch" if only_torch or compiled else fastest_backend(device)
    if only_torch and name != "torch":
        raise UserError(f"Backend {name!r} runs only STU-Nets; use --backend torch for this model.")
    if compiled and name not in COMPILED:
        raise UserError(
            f"Backend {name!r} always compiles its network itself; --compile is only for --backend "
            f"{', '.join(COMPILED)}. Leave one of them out."
        )
    return name, (COMPILED if compiled else BACKENDS)[name]


def fastest_backend(device: torch.device) -> str:
    """OpenVINO on a CPU if everything it needs is installed, otherwise torch."""
    return "openvino" if device.type == "cpu" and has_openvino() else "torch"
