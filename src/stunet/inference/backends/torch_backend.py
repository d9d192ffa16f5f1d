"""Networks run by torch: on a CPU, on NVIDIA's GPUs, on Apple's."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import nn

from stunet.errors import UnknownNameError
from stunet.inference.backends.cudnn import exact_and_tuned
from stunet.inference.backends.maps import Features, WindowMaps, head_of
from stunet.inference.backends.precision import PRECISIONS, Precision, require_precision
from stunet.networks.network import Network, twin_of

OFFERED: dict[str, tuple[Precision, ...]] = {
    "cpu": ("float32", "bfloat16"),
    "cuda": PRECISIONS,
    "mps": ("float32", "float16"),
}
"""Precisions by kind of device."""


CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)
"""What autocasting computes in the precision of the network."""


class TorchBackend:
    """One or several networks of one architecture; fulfils `Backend`.

    Args:
        networks: in evaluation mode; they stay where and as they are.
        device: where to run.
        precision: of the network.
        window_size: unused, for torch takes windows of any size.

    Raises:
        UserError: a precision that the device does not offer.
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
        networks = [on_device(network, device, precision) for network in networks]
        self.head = head_of(networks, device)
        self._maps: Callable[[torch.Tensor], torch.Tensor] = WindowMaps(
            networks, [Features(network) for network in networks]
        ).eval()
        self._type = cast(torch.dtype, getattr(torch, precision))

    @torch.inference_mode()
    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The features (B, Z, Y, X, F) of windows (B, C, Z, Y, X)."""
        return self._run(windows_BCZYX).float()

    def _run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """As `run`, in the precision of the network."""
        # channels last wherever that is the faster
        layout = torch.contiguous_format if self.precision == "float32" else torch.channels_last_3d
        windows_BCZYX = windows_BCZYX.to(self.device, memory_format=layout)
        with exact_and_tuned(), torch.autocast(self.device.type, self._type, enabled=self.precision != "float32"):
            return self._maps(windows_BCZYX)


def on_device(network: Network, device: torch.device, precision: Precision) -> Network:
    """The network itself if it is there already, else a copy; the weights are never twice on one device.

    The copy's convolutions, but for its heads, have their weights in the precision of the network: autocasting would
    convert them again for each window.
    """
    weights = network.state_dict()
    if all(tensor.device == device for tensor in weights.values()):
        return network
    copy = twin_of(network)
    copy.load_state_dict({key: tensor.to(device) for key, tensor in weights.items()}, assign=True)
    for name, module in copy.named_modules():
        if isinstance(module, CONVOLUTIONS) and not f"{name}.".startswith(network.head_keys):
            module.to(getattr(torch, precision))
    return copy.eval()


def torch_device(name: str) -> torch.device:
    """The device that a user named, "cuda:1" for instance; "auto" is an NVIDIA GPU if there is one, else the CPU.

    Apple's GPUs ("mps") are used only when they are named.

    Raises:
        UserError: a device that this machine, or this installation of torch, does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    present = available_devices()
    if name not in present:
        raise UnknownNameError.of("device", name, ["auto", *present])
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def available_devices() -> list[str]:
    """What this machine and its torch have: cpu, cuda and each GPU of it by number, mps."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    numbered = ["cuda", *(f"cuda:{number}" for number in range(gpus))] if gpus else []
    return ["cpu", *numbered, *(["mps"] if torch.backends.mps.is_available() else [])]
