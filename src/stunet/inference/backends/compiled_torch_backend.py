"""Run networks compiled by torch for this machine: with a C++ compiler on a CPU, as CUDA graphs on NVIDIA GPUs."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from stunet.errors import UserError
from stunet.files import cache_folder
from stunet.inference.backends.precision import Precision
from stunet.inference.backends.torch_backend import TorchBackend
from stunet.networks.network import Network

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""The cache folder of torch's compiler, Inductor; by default in the system's temporary folder."""

MODES = {"cuda": "reduce-overhead"}
"""`torch.compile`'s mode by kind of device, if not the default: CUDA graphs on NVIDIA GPUs."""

ONE_AT_A_TIME = threading.Lock()
"""Lock for all compiled runs of the process: each run of a CUDA graph overwrites the previous result."""


class CompiledTorchBackend(TorchBackend):
    """A `TorchBackend` that compiles the network on creation; implements `Backend`.

    Windows run one by one, so that one graph works for all batch sizes; each result is copied from the graph's memory.
    The compiled network is cached in `STUNET_HOME/cache/inductor` for the next start; the variable
    `TORCHINDUCTOR_CACHE_DIR` is set to that folder unless already set. Compiling may start processes.

    Args:
        networks: networks in evaluation mode; they are not changed or moved.
        device: device to run on.
        precision: precision of the network.
        window_size: size (Z, Y, X) of all windows.

    Raises:
        UserError: the device does not support the precision, or torch cannot compile.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        device: torch.device,
        precision: Precision,
        window_size: Sequence[int],
    ):
        super().__init__(networks, device, precision, window_size)
        if CACHE_VARIABLE not in os.environ:
            os.environ[CACHE_VARIABLE] = str(cache_folder("inductor"))
        self._maps = torch.compile(self._maps, dynamic=False, mode=MODES.get(device.type))
        self.run(torch.zeros(1, networks[0].input_channels, *window_size))

    @torch.inference_mode()
    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The features (B, Z, Y, X, F) of windows (B, C, Z, Y, X)."""
        batch, _, *size = windows_BCZYX.shape
        features_BZYXF = torch.empty((batch, *size, self.head.num_features), device=self.device)
        with ONE_AT_A_TIME, _failures_for_people():
            for window_CZYX, features_ZYXF in zip(windows_BCZYX, features_BZYXF, strict=True):
                # copy, because torch recompiles for other strides or for tensors created in another mode
                window_BCZYX = window_CZYX[None].clone(memory_format=torch.contiguous_format)
                features_ZYXF.copy_(self._run(window_BCZYX)[0])
        return features_BZYXF


@contextmanager
def _failures_for_people() -> Iterator[None]:
    """Raise UserError if torch cannot compile."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(
            f"torch cannot compile the network here: {reason}. It needs a C++ compiler (g++ on Linux, Xcode's command "
            "line tools on macOS, Visual Studio's build tools on Windows), and triton on an NVIDIA GPU; install them, "
            "or leave --compile out."
        ) from error
