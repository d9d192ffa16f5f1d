"""Run STU-Nets with OpenVINO, the fastest backend on Intel and AMD CPUs.

A model is converted and compiled once per machine and cached in `STUNET_HOME/cache/openvino`, under a hash of
everything that the result depends on.
"""

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
from stunet.inference.onnx_translation import LayerWriter, instance_norm_in_one_node
from stunet.networks.digest import digest_of
from stunet.networks.stunet import STUNet

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
"""OpenVINO's names for precisions."""

NORMS: dict[Precision, dict[Any, LayerWriter]] = {
    "float32": {},
    "bfloat16": {functional.instance_norm: instance_norm_in_one_node},
}
"""Translations of instance norm; bfloat16 is too coarse for the exact one to matter."""

FORMAT = 4
"""Version of the cached files; increase it when the conversion changes."""

IR_NAME = "model.xml"
"""The converted network; OpenVINO stores its compiled blobs in the same folder."""


@cache
def openvino_core() -> "Core":
    """OpenVINO's runtime, created on first use and kept for the whole process.

    OpenVINO's CPU plugin (seen in 2026.4) installs a signal stack in the thread that creates it, and restores the
    previous one when destroyed. If there are two plugins and the first is destroyed first, the second restores a stack
    that no longer exists, and the next signal, such as Ctrl-C, causes a segmentation fault. A single plugin that is
    never destroyed avoids this.

    Raises:
        UserError: OpenVINO is not installed.
    """
    with from_extra("cpu"):
        from openvino import Core
    return Core()


class OpenVinoBackend:
    """One or several STU-Nets of one architecture; implements `Backend`.

    Args:
        networks: networks in evaluation mode; not changed.
        device: the CPU.
        precision: "float32", or "bfloat16" with the residual stream in float32, see `openvino_precision`.
        window_size: size (Z, Y, X) of all windows.

    Raises:
        UserError: OpenVINO is not installed, or another device or precision is requested.
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
            raise UserError(f"Backend 'openvino' runs on the CPU, not on {device.type!r}; use --backend torch there.")
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
            # both tensors are used without copying, so they must stay alive
            window_BCZYX = window_CZYX[None].contiguous()
            request.set_input_tensor(Tensor(window_BCZYX.numpy(), shared_memory=True))
            request.set_output_tensor(Tensor(features_ZYXF[None].numpy(), shared_memory=True))
            request.infer(share_outputs=True)  # otherwise its Python wrapper copies the result
        return features_BZYXF

    def _answer(self, shape: tuple[int, ...]) -> torch.Tensor:
        """This thread's memory for results. It is reused, because allocating it takes a tenth of a window's time."""
        answer = getattr(self._threads, "answer", None)
        if answer is None or answer.shape != shape:
            answer = self._threads.answer = torch.empty(shape)
        return answer

    def _request(self) -> "InferRequest":
        """This thread's inference request."""
        if not hasattr(self._threads, "request"):
            self._threads.request = self._compiled.create_infer_request()
        return self._threads.request


def _compiled(networks: Sequence[STUNet], precision: Precision, window_size: tuple[int, ...]) -> "CompiledModel":
    """Load the compiled model from the cache; if it is missing, convert and cache it."""
    with from_extra("cpu"):
        import openvino
    key = digest_of(networks, FORMAT, precision, window_size, openvino.__version__)
    folder = cache_folder("openvino") / key
    if not (folder / IR_NAME).exists():
        _convert(networks, precision, window_size, folder)
    options: dict[str, Any] = {
        "CACHE_DIR": str(folder),
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # other programs may be running
    }
    return openvino_core().compile_model(folder / IR_NAME, "CPU", options)


def _convert(networks: Sequence[STUNet], precision: Precision, window_size: tuple[int, ...], folder: Path) -> None:
    """Convert the networks to OpenVINO's format; the folder appears only when complete.

    The conversion uses ONNX, because OpenVINO's converter for torch sends usage data over the internet.
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
    """Rename the folder. If another process was faster, use its folder."""
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / IR_NAME).exists():
            raise
