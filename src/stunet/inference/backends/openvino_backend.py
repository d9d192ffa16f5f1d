"""STU-Nets run by OpenVINO, the fastest way on Intel's and AMD's CPUs.

A model is converted and compiled once for each machine and kept in `STUNET_HOME/cache/openvino`, under a name made of
all that the result depends on; the second start takes it from there.
"""

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from stunet.errors import OutputError, UserError
from stunet.extras import from_extra
from stunet.files import cache_folder, made_folder
from stunet.inference.backends.maps import head_of
from stunet.inference.backends.onnx_backend import maps_graph
from stunet.inference.backends.openvino_precision import keep_stream_in_float32
from stunet.inference.backends.precision import Precision, require_precision
from stunet.inference.onnx_graph import LayerWriter, instance_norm_in_one_node
from stunet.networks.stunet import STUNet

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
"""OpenVINO's names of precisions."""

NORMS: dict[Precision, dict[Any, LayerWriter]] = {
    "float32": {},
    "bfloat16": {functional.instance_norm: instance_norm_in_one_node},
}
"""How instance norms are written; bfloat16 is too coarse for the exact way to matter."""

FORMAT = 4
"""Of what is kept; counted up when the same network is converted otherwise."""

IR_NAME = "model.xml"
"""The converted network; the blobs that OpenVINO compiled from it lie beside it."""


@cache
def openvino_core() -> "Core":
    """OpenVINO's runtime, one for the process: made at its first use and kept.

    OpenVINO's CPU plugin (seen in 2026.4) gives the thread that makes it a stack for signals, and at its end puts back
    the one that it found. Of two plugins whose first one ends first, the second puts back a stack that is gone, and the
    next signal, Ctrl-C for one, ends the process with a segmentation fault. One plugin that is kept never does so.

    Raises:
        UserError: OpenVINO is not installed.
    """
    with from_extra("cpu"):
        from openvino import Core
    return Core()


class OpenVinoBackend:
    """One or several STU-Nets of one architecture; fulfils `Backend`.

    Args:
        networks: in evaluation mode; not changed.
        device: the CPU.
        precision: "float32", or "bfloat16" with the residual stream in float32, see `openvino_precision`.
        window_size: (Z, Y, X) of all windows to come.

    Raises:
        UserError: OpenVINO is not installed, or another device or precision is asked for.
    """

    name = "openvino"
    allocates_by_torch = False

    def __init__(
        self,
        networks: Sequence[STUNet],
        device: torch.device,
        precision: Precision,
        window_size: Sequence[int],
    ):
        if device.type != "cpu":
            raise UserError(f"Backend 'openvino' runs on the CPU, not on {device.type!r}; take --backend torch there.")
        require_precision(precision, tuple(HINTS), self.name, device)
        self.device, self.precision = device, precision
        self.head = head_of(networks, device)
        self._compiled = _compiled(networks, precision, tuple(window_size))
        self._threads = threading.local()

    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The features (B, Z, Y, X, F) of windows (B, C, Z, Y, X); this thread's next call overwrites them."""
        from openvino import Tensor

        batch, _, *size = windows_BCZYX.shape
        features_BZYXF = self._answer((batch, *size, self.head.num_features))
        request = self._request()
        for window_CZYX, features_ZYXF in zip(windows_BCZYX, features_BZYXF, strict=True):
            # both tensors are used where they lie, without copies, so they must live as long
            window_BCZYX = window_CZYX[None].contiguous()
            request.set_input_tensor(Tensor(window_BCZYX.numpy(), shared_memory=True))
            request.set_output_tensor(Tensor(features_ZYXF[None].numpy(), shared_memory=True))
            request.infer()
        return features_BZYXF

    def _answer(self, shape: tuple[int, ...]) -> torch.Tensor:
        """This thread's own memory for answers, used again and again: new memory costs a window a tenth of its time."""
        answer = getattr(self._threads, "answer", None)
        if answer is None or answer.shape != shape:
            answer = self._threads.answer = torch.empty(shape)
        return answer

    def _request(self) -> "InferRequest":
        """This thread's own."""
        if not hasattr(self._threads, "request"):
            self._threads.request = self._compiled.create_infer_request()
        return self._threads.request


def _compiled(networks: Sequence[STUNet], precision: Precision, window_size: tuple[int, ...]) -> "CompiledModel":
    """From the cache, or converted, compiled and put there."""
    with from_extra("cpu"):
        import openvino
    folder = cache_folder("openvino") / _fingerprint(networks, precision, window_size, openvino.__version__)
    if not (folder / IR_NAME).exists():
        _convert(networks, precision, window_size, folder)
    options: dict[str, Any] = {
        "CACHE_DIR": str(folder),
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # other programs run, too
    }
    return openvino_core().compile_model(folder / IR_NAME, "CPU", options)


def _convert(networks: Sequence[STUNet], precision: Precision, window_size: tuple[int, ...], folder: Path) -> None:
    """Write OpenVINO's form of the networks; the folder appears whole.

    By way of ONNX: OpenVINO's own converter of torch's networks reports to its makers over the internet.
    """
    with from_extra("cpu"):
        import openvino
    graph = maps_graph(networks, 1, window_size, NORMS[precision])
    made_folder(folder.parent)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        with tempfile.TemporaryDirectory(dir=temporary) as onnx_folder:
            source, *_ = graph.save(Path(onnx_folder) / "model.onnx")
            model = openvino_core().read_model(source)
            openvino.save_model(model, temporary / IR_NAME, compress_to_fp16=False)
            if precision == "bfloat16":
                keep_stream_in_float32(model, temporary / IR_NAME)
        _publish(temporary, folder)
    except OSError as error:
        raise OutputError(f"{folder.parent}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    """Rename; where another process was quicker, its folder is as good as ours."""
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / IR_NAME).exists():
            raise


def _fingerprint(networks: Sequence[STUNet], precision: Precision, window_size: tuple[int, ...], version: str) -> str:
    """A name made of weights, architecture, precision, window and OpenVINO's version."""
    settings = FORMAT, networks[0].spec, precision, window_size, version
    digest = hashlib.sha256(repr(settings).encode())
    for network in networks:
        for key, tensor in network.state_dict().items():
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:32]
