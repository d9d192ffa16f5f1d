"""Run networks with torch, on a CPU or on NVIDIA or Apple GPUs."""

import logging
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from stunet.errors import UnknownNameError
from stunet.inference.backends.cudnn import exact_and_tuned
from stunet.inference.backends.float32_stream import keep_stream_in_float32
from stunet.inference.backends.maps import Features, WindowMaps, head_of
from stunet.inference.backends.names import PRECISIONS, Precision
from stunet.inference.backends.precision import require_precision
from stunet.networks.network import Network, twin_of

logger = logging.getLogger(__name__)

OFFERED: dict[str, tuple[Precision, ...]] = {
    "cpu": ("float32", "bfloat16"),
    "cuda": PRECISIONS,
    "mps": ("float32", "float16"),
}
"""Supported precisions by kind of device."""


OVERFLOW = (
    "Values became too large for float16. This and all following windows are computed in float32, which is slower. "
    "To avoid this, use --precision float32 or bfloat16."
)

CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)
"""The layers that autocasting computes in the network's precision."""


class TorchBackend:
    """One or several networks of one architecture; implements `Backend`.

    Args:
        networks: networks in evaluation mode; they are not changed or moved.
        device: device to run on.
        precision: precision of the network.
        window_size: unused, because torch accepts windows of any size.

    Raises:
        UserError: the device does not support the precision.
    """

    name = "torch"
    allocates_by_torch = True

    def __init__(
        self,
        networks: Sequence[Network],
        device: torch.device,
        precision: Precision = "float32",
        window_size: Sequence[int] = (),
    ):
        require_precision(precision, OFFERED.get(device.type, ("float32",)), self.name, device)
        self.device, self.precision = device, precision
        self._networks = networks
        self._maps = self._maps_of(precision)
        self.head = head_of(networks, device)

    def _maps_of(self, precision: Precision) -> Callable[[torch.Tensor], torch.Tensor]:
        networks = [on_device(network, self.device, precision) for network in self._networks]
        return WindowMaps(networks, [Features(network) for network in networks]).eval()

    @torch.inference_mode()
    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The features (B, Z, Y, X, F) of windows (B, C, Z, Y, X)."""
        return self._run(windows_BCZYX).float()

    def _run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """As `run`, in the network's precision. After an overflow in float16, switch to float32."""
        features = self._compute(windows_BCZYX)
        if self.precision == "float16" and not torch.isfinite(features).all():
            logger.warning(OVERFLOW)
            self.precision = "float32"
            self._maps = self._maps_of("float32")
            features = self._compute(windows_BCZYX)
        return features

    def _compute(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        # channels last where it is faster
        layout = torch.contiguous_format if self.precision == "float32" else torch.channels_last_3d
        windows_BCZYX = windows_BCZYX.to(self.device, memory_format=layout)
        dtype = cast(torch.dtype, getattr(torch, self.precision))
        with exact_and_tuned(), torch.autocast(self.device.type, dtype, enabled=self.precision != "float32"):
            return self._maps(windows_BCZYX)


def on_device(network: Network, device: torch.device, precision: Precision) -> Network:
    """The network itself if it is already on the device and float32 is requested, otherwise a copy.

    The copy's convolutions, except heads and the decoder's stream, have weights in the requested precision, because
    autocasting would convert them again for each window.
    """
    weights = network.state_dict()
    is_there = all(tensor.device == device for tensor in weights.values())
    if is_there and precision == "float32":
        return network
    copy = twin_of(network)
    copy.load_state_dict({key: tensor.to(device) for key, tensor in weights.items()}, assign=True)
    if precision != "float32":
        _convert(copy, getattr(torch, precision))
    return copy.eval()


def _convert(network: Network, dtype: torch.dtype) -> None:
    """Convert the weights of the convolutions in place, except those of heads and stream."""
    kept = {part for module in keep_stream_in_float32(network) for part in module.modules()}
    for name, module in network.named_modules():
        if isinstance(module, CONVOLUTIONS) and module not in kept and not f"{name}.".startswith(network.head_keys):
            _give_weights_of(module, dtype)


def _give_weights_of(module: nn.Module, dtype: torch.dtype) -> None:
    """Set new weights, because the old ones may be shared with the network that this one was copied from."""
    for name, parameter in module.named_parameters(recurse=False):
        setattr(module, name, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))


def torch_device(name: str) -> torch.device:
    """The device with a user's name, e.g. "cuda:1"; "auto" is an NVIDIA GPU if there is one, otherwise the CPU.

    Apple's GPUs ("mps") are used only if named.

    Raises:
        UserError: this machine or this installation of torch does not have the device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    present = available_devices()
    if name not in present:
        raise UnknownNameError.of("device", name, ["auto", *present])
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def available_devices() -> list[str]:
    """The devices of this machine and its torch: cpu, cuda and each NVIDIA GPU by number, mps."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    numbered = ["cuda", *(f"cuda:{number}" for number in range(gpus))] if gpus else []
    return ["cpu", *numbered, *(["mps"] if torch.backends.mps.is_available() else [])]
