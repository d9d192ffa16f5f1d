"""A model as a file for other runtimes: ONNX or OpenVINO's IR, and beside it the card that says how to use it.

The file takes one or several windows and gives logits; several folds are averaged inside. It is tried before it
appears: one window goes through it and through torch, and the answers must agree.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import nn

from stunet.errors import OutputError, UserError
from stunet.extras import from_extra
from stunet.files import made_folder, printable, require_output, require_short_name, write_json
from stunet.inference.backends.onnx_backend import CPU_PROVIDER, session_options
from stunet.inference.backends.openvino_backend import openvino_core
from stunet.inference.export_card import export_card
from stunet.inference.head import mean_head
from stunet.inference.onnx_graph import INPUT, OnnxGraph
from stunet.inference.onnx_translation import build_graph
from stunet.networks.fuse import fuse
from stunet.networks.stunet import STUNet
from stunet.weights.model import Model
from stunet.weights.model_card import stunet_on

Format = Literal["onnx", "openvino"]

OUTPUT = "logits"
"""Name of the file's output."""

CARD_SUFFIX = ".card.json"
"""Takes the place of the file's own suffix in the card's name."""

TOLERANCE = 1e-3
"""Largest difference from torch's logits that is let pass, in standard deviations of these. Rounding to float32 alone
makes 2e-5 in `small`, 1e-4 in `large` and 2e-4 in `huge`; inexact norms made 1e-2 (see `onnx_translation`)."""


@dataclass(frozen=True)
class Exported:
    """What an export left.

    Attributes:
        files: the network; first the one to open.
        card: how to use it.
        difference: largest difference of its logits from torch's, in standard deviations of these.
    """

    files: tuple[Path, ...]
    card: Path
    difference: float


def export_model(model: Model, to: Format, path: Path) -> Exported:
    """Write a model for another runtime, with its card. Both appear only once the file has been tried.

    Args:
        model: one network, or several folds.
        to: "onnx" (one file, and above 1 GB a second with ".data" appended) or "openvino" (an .xml and a .bin).
        path: ending in .onnx or .xml; its folder is made where missing.

    Raises:
        UserError: another network than an STU-Net, a path that ends otherwise or cannot be written, a package that is
            not installed, or a file whose answers are not those of torch.
    """
    require_path(path, to)
    stunet_on(model.card)
    _, write, run = _FORMATS[to]
    try:
        with tempfile.TemporaryDirectory(prefix=".stunet-export-", dir=made_folder(path.parent)) as folder:
            written = write(logits_graph(model), Path(folder) / path.name)
            difference = require_agreement(model, run(written[0], example_window(model)), path)
            card = Path(folder) / f"{path.stem}{CARD_SUFFIX}"
            write_json(card, export_card(model, written, (INPUT, OUTPUT), difference))
            moved = [file.replace(path.parent / file.name) for file in (*reversed(written), card)]
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    *files, card = moved
    return Exported(tuple(reversed(files)), card, difference)


def require_path(path: Path, to: Format) -> None:
    """Refuse a path to which nothing can be exported, before any work is done.

    Raises:
        UserError: see `export_model`.
    """
    suffix, *_ = _FORMATS[to]
    if path.suffix != suffix:
        raise UserError(f"{path}: a model exported to {to} is a {suffix} file; give it a name with this ending.")
    if printable(str(path)) != str(path):
        raise OutputError(f"{path}: ONNX Runtime and OpenVINO take only paths in UTF-8; choose another path.")
    require_output(path)
    require_short_name(path.with_suffix(CARD_SUFFIX))


class MeanLogits(nn.Module):
    """The mean logits of several networks, by one head over all their features.

    Args:
        networks: of one architecture, in evaluation mode; not changed.
    """

    def __init__(self, networks: Sequence[STUNet]):
        super().__init__()
        self.fused = nn.ModuleList([fuse(network) for network in networks])
        head = mean_head([network.head for network in networks])
        self.head = nn.Conv3d(head.num_features, head.num_classes, 1)
        self.head.weight = nn.Parameter(head.weight[..., None, None, None])
        self.head.bias = nn.Parameter(head.bias)

    def forward(self, image_BCZYX: torch.Tensor) -> torch.Tensor:
        """(B, C, Z, Y, X) to (B, K, Z, Y, X)."""
        return self.head(torch.cat([network(image_BCZYX) for network in self.fused], dim=1))


def logits_graph(model: Model) -> OnnxGraph:
    """The graph that is exported: windows (B, C, Z, Y, X) of the plan's size to logits (B, K, Z, Y, X)."""
    networks, space = cast(Sequence[STUNet], model.networks), model.plan.patch_size
    return build_graph(
        MeanLogits(networks).eval(),
        ("batch", networks[0].input_channels, *space),
        OUTPUT,
        ("batch", networks[0].num_classes, *space),
    )


def example_window(model: Model) -> np.ndarray:
    """A window (1, C, Z, Y, X) of noise, the same each time."""
    shape = (1, model.networks[0].input_channels, *model.plan.patch_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).numpy()


def require_agreement(model: Model, logits_BKZYX: np.ndarray, path: Path) -> float:
    """The largest difference of a file's logits of `example_window` from torch's, in standard deviations of these.

    Raises:
        UserError: it is above `TOLERANCE`; names `path`.
    """
    difference = _largest_difference(model, logits_BKZYX)
    if not difference <= TOLERANCE:
        raise OutputError(
            f"{path}: not written, because the exported file's results differ from torch's by {difference:.2g} "
            f"standard deviations, and {TOLERANCE:g} are allowed. Are the model's weights damaged?"
        )
    return difference


@torch.inference_mode()
def _largest_difference(model: Model, logits_BKZYX: np.ndarray) -> float:
    """Between a file's logits of `example_window` and torch's, in standard deviations of torch's."""
    image = torch.from_numpy(example_window(model))
    expected = sum(network.head(network.forward_features(image)) for network in model.networks)
    expected = expected.div_(len(model.networks))
    if expected.shape != logits_BKZYX.shape:
        return float("inf")
    pairs = zip(expected[0], torch.from_numpy(logits_BKZYX)[0], strict=True)
    largest = torch.stack([(one - other).abs().max() for one, other in pairs]).max()  # NaN where any is NaN
    return float(largest / expected.std())


# Formats: how to write a graph, and how to run what was written


def _run_onnx(path: Path, image_BCZYX: np.ndarray) -> np.ndarray:
    with from_extra("onnx"):
        from onnxruntime import InferenceSession
    options = session_options()
    options.enable_cpu_mem_arena = False  # slower, and a fifth less memory: `huge` needs that
    session = InferenceSession(path, options, providers=[CPU_PROVIDER])
    return session.run([OUTPUT], {INPUT: image_BCZYX})[0]


def _write_openvino(graph: OnnxGraph, path: Path) -> list[Path]:
    """By way of ONNX: OpenVINO's own converter of torch's networks reports to its makers over the internet."""
    with from_extra("cpu"):
        import openvino
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder) / "model.onnx"
        graph.save(source)
        openvino.save_model(openvino_core().read_model(source), path, compress_to_fp16=False)
    return [path, path.with_suffix(".bin")]


def _run_openvino(path: Path, image_BCZYX: np.ndarray) -> np.ndarray:
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino_core().compile_model(path, "CPU", options)
    return compiled({INPUT: image_BCZYX})[OUTPUT]


Writer = Callable[[OnnxGraph, Path], list[Path]]
Runner = Callable[[Path, np.ndarray], np.ndarray]

_FORMATS: dict[Format, tuple[str, Writer, Runner]] = {
    "onnx": (".onnx", OnnxGraph.save, _run_onnx),
    "openvino": (".xml", _write_openvino, _run_openvino),
}
