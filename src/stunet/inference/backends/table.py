"""What can run the network; a new backend is one more line here."""

from collections.abc import Callable, Sequence

import torch

from stunet.inference.backends.base import Backend
from stunet.inference.backends.torch_backend import TorchBackend
from stunet.networks.stunet import STUNet

BACKENDS: dict[str, Callable[[Sequence[STUNet], torch.device], Backend]] = {"torch": TorchBackend}
"""Name to what makes the backend from networks and a device."""
