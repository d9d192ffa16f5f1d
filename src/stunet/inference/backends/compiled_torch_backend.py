"""Networks that torch compiles for the machine: on a CPU by its C++ compiler, on NVIDIA's GPUs as CUDA graphs."""

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
"""Where torch's compiler, Inductor, keeps what it made; without it in the system's temporary folder."""

MODES = {"cuda": "reduce-overhead"}
"""`torch.compile`'s mode by kind of device, where it is not the default: CUDA graphs on NVIDIA's GPUs."""

ONE_AT_A_TIME = threading.Lock()
"""Over all compiled runs of the process: the next run of a CUDA graph overwrites the answer of the one before."""


class CompiledTorchBackend(TorchBackend):
    """As `TorchBackend`, compiled when it is made; fulfils `Backend`.

    Windows run one by one, so that one graph serves batches of every size; each answer is copied out of the graph's
    memory. What was compiled is kept in `STUNET_HOME/cache/inductor`, where the next start finds it; the variable
    `TORCHINDUCTOR_CACHE_DIR` is set to that folder unless it is set already. Compiling may start processes.

    Args:
        networks: in evaluation mode; they stay where and as they are.
        device: where to run.
        precision: of the network.
        window_size: (Z, Y, X) of all windows to come.

    Raises:
        UserError: a precision that the device does not offer, or torch lacks what it needs to compile.
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
                # a copy, for to torch strides and the mode in which a tensor was made are reasons to compile anew
                window_BCZYX = window_CZYX[None].clone(memory_format=torch.contiguous_format)
                features_ZYXF.copy_(self._run(window_BCZYX)[0])
        return features_BZYXF


@contextmanager
def _failures_for_people() -> Iterator[None]:
    """Raises UserError where torch cannot compile."""
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
