"""Run STU-Nets with ONNX Runtime, on any CPU or on NVIDIA GPUs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from stunet.errors import UserError
from stunet.extras import from_extra
from stunet.inference.backends.maps import WindowMaps, head_of
from stunet.inference.backends.precision import Precision, require_precision
from stunet.inference.onnx_graph import INPUT, OnnxGraph
from stunet.inference.onnx_translation import LayerWriter, build_graph
from stunet.networks.fuse import fuse
from stunet.networks.stunet import STUNet

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

OUTPUT = "maps"

ERRORS_ONLY = 3
"""Log level of ONNX Runtime, which logs to stderr."""

NO_MEMORY = "Failed to allocate memory"
"""Part of ONNX Runtime's message if memory runs out."""

CPU_PROVIDER = "CPUExecutionProvider"

CUDA_PROVIDER = "CUDAExecutionProvider"


class OnnxBackend:
    """One or several STU-Nets of one architecture; implements `Backend`.

    The graph is built at each start, which takes a fraction of a second. On a CPU, the networks' weights are used
    without copying.

    Args:
        networks: networks in evaluation mode, on the CPU; not changed.
        device: the CPU or an NVIDIA GPU.
        precision: "float32".
        window_size: size (Z, Y, X) of all windows; may be left out.

    Raises:
        UserError: ONNX Runtime is not installed, or does not support the device or precision.
    """

    name = "onnx"
    allocates_by_torch = False

    def __init__(
        self,
        networks: Sequence[STUNet],
        device: torch.device,
        precision: Precision = "float32",
        window_size: Sequence[int] = (),
    ):
        require_precision(precision, ("float32",), self.name, device)
        self.device, self.precision = device, precision
        self.head = head_of(networks, device)
        with from_extra("onnx"):
            import onnxruntime as runtime
        providers = _providers(device, runtime.get_available_providers())
        graph = maps_graph(networks, "B", tuple(window_size) or ("Z", "Y", "X"))
        options = session_options()
        self._weights = {
            name: runtime.OrtValue.ortvalue_from_numpy(tensor.numpy()) for name, tensor in graph.weights.items()
        }
        options.add_external_initializers(list(self._weights), list(self._weights.values()))
        if device.type == "cpu":  # in addition to the line above, this avoids ONNX Runtime's own copy
            for name, weight in self._weights.items():
                options.add_initializer(name, weight)
        model = graph.model(data="memory").SerializeToString()
        self._session = runtime.InferenceSession(model, options, providers=providers)

    @torch.inference_mode()
    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The features (B, Z, Y, X, F) of windows (B, C, Z, Y, X)."""
        try:
            (maps_BZYXF,) = self._session.run([OUTPUT], {INPUT: windows_BCZYX.cpu().contiguous().numpy()})
        except Exception as error:  # ONNX Runtime has its own exception type, but none for a lack of memory
            if NO_MEMORY in str(error):
                raise torch.OutOfMemoryError(str(error)) from error
            raise
        return torch.from_numpy(maps_BZYXF).to(self.device)


def maps_graph(
    networks: Sequence[STUNet],
    batch: int | str,
    space: Sequence[int | str],
    functions: Mapping[Any, LayerWriter] | None = None,
) -> OnnxGraph:
    """The graph of the networks' `WindowMaps` for windows (batch, C, *space); for functions see `build_graph`."""
    maps = WindowMaps(networks, [fuse(network) for network in networks]).eval()
    num_features = head_of(networks, torch.device("cpu")).num_features
    shape = batch, networks[0].input_channels, *space
    return build_graph(maps, shape, OUTPUT, (batch, *space, num_features), functions)


def session_options() -> "SessionOptions":
    """Use as many threads as torch, without spinning while they wait, and log errors only."""
    with from_extra("onnx"):
        from onnxruntime import SessionOptions
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers(device: torch.device, available: Sequence[str]) -> list[Any]:
    """The execution providers; on a GPU without TF32, which is less precise than float32."""
    if device.type == "cpu":
        return [CPU_PROVIDER]
    if device.type == "cuda" and CUDA_PROVIDER in available:
        return [(CUDA_PROVIDER, {"device_id": str(device.index or 0), "use_tf32": "0"}), CPU_PROVIDER]
    raise UserError(
        f"Backend 'onnx' cannot run on {device.type!r} here, because this ONNX Runtime has {', '.join(available)}; "
        "use the CPU, or --backend torch."
    )
