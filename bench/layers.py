"""Time of each layer of the network that OpenVINO compiles for one window, against the floor of that layer.

The floor is what the machine needs at least: the multiplications at the measured peak of a convolution, or the bytes at
the measured bandwidth of memory, whichever takes longer. Inputs and outputs count once each, except those that fit
into the last cache. Times are OpenVINO's own (`PERF_COUNT`), and each is the fastest of several runs, because another
program can only make a layer slower. So their sum is a little less than the time of a real window. Weights are random.

    python bench/layers.py [--size small base large] [--precision bfloat16 float32] [--batch 1 2] [--threads 2]
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from inference import convolution_rate
from inference_memory import random_model

from stunet.inference.backends.onnx_backend import maps_graph
from stunet.inference.backends.openvino_backend import HINTS, NORMS, openvino_core
from stunet.inference.backends.openvino_precision import keep_stream_in_float32
from stunet.inference.backends.precision import Precision
from stunet.networks.stunet import SIZES, STUNet

if TYPE_CHECKING:
    from openvino import CompiledModel, Node

WINDOW = (128, 128, 128)
CLASSES = 105
ELEMENT_BYTES = {"f32": 4, "bf16": 2, "f16": 2, "i64": 8, "i32": 4, "u8": 1, "i8": 1}
LAST_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")

KINDS = {
    "Deconvolution": "up-convolution",
    "MVN": "norm",
    "Reduce": "norm",
    "Subgraph": "add, activation",
    "Eltwise": "add, activation",
    "Reorder": "layout or precision change",
    "Transpose": "layout or precision change",
    "Convert": "layout or precision change",
}
"""OpenVINO's layer type -> kind of layer. Convolutions are named by their kernel."""

NORM_STEPS = ("Div_", "Sub_")
"""Operations that only the step-by-step norm of float32 has (`onnx_translation._instance_norm`)."""


@dataclass(frozen=True)
class Machine:
    """What this machine can do with the threads in use.

    Attributes:
        macs: multiply-adds per second of a convolution.
        bandwidth: bytes per second that are read or written.
        cache: bytes of the last cache.
    """

    macs: float
    bandwidth: float
    cache: int


@dataclass(frozen=True)
class Layer:
    """One layer as compiled, with all that OpenVINO fused into it.

    Attributes:
        kind, stage: for the table.
        shape: channels and voxels.
        macs: multiply-adds.
        bytes: read and written.
        slow_bytes: those that do not fit into the last cache.
        seconds: of the fastest run.
    """

    kind: str
    stage: str
    shape: str
    macs: int
    bytes: int
    slow_bytes: int
    seconds: float

    def floor(self, machine: Machine) -> float:
        """The least seconds."""
        return max(self.macs / machine.macs, self.slow_bytes / machine.bandwidth)


def main() -> None:
    """Print the tables of each size, precision and batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=list(SIZES), default=["small"])
    parser.add_argument("--precision", nargs="+", choices=list(HINTS), default=list(HINTS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for precision in asked.precision:
        machine = measured_machine(getattr(torch, precision))
        for size in asked.size:
            for batch in asked.batch:
                layers = profiled(compiled(size, precision, batch, asked.threads), asked.runs, machine.cache)
                print_heading(f"{size}, {precision}, batch {batch}, {asked.threads} threads", machine)
                print_layers(layers, machine)
                print_shares(layers, machine)


def measured_machine(dtype: torch.dtype) -> Machine:
    """Measure the peak of a convolution and the bandwidth of a copy that no cache holds; the best of many runs."""
    source = torch.zeros(2**27)
    copy = torch.zeros_like(source)
    seconds = min(timed(partial(copy.copy_, source)) for _ in range(20))
    text = LAST_CACHE.read_text().strip() if LAST_CACHE.exists() else "32768K"
    return Machine(
        max(convolution_rate(dtype) for _ in range(5)), 2 * source.nbytes / seconds, int(text.removesuffix("K")) * 1024
    )


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compiled(
    size: str, precision: Precision, batch: int, threads: int, streams: int = 1, is_profiled: bool = True
) -> "CompiledModel":
    """Compile as `OpenVinoBackend` does, for any batch, without its cache."""
    import openvino

    graph = maps_graph(cast(tuple[STUNet, ...], random_model(CLASSES, size).networks), batch, WINDOW, NORMS[precision])
    options = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,
        "PERF_COUNT": is_profiled,
    }
    with tempfile.TemporaryDirectory() as folder:
        source, *_ = graph.save(Path(folder) / "model.onnx")
        model, path = openvino_core().read_model(source), Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        if precision == "bfloat16":
            keep_stream_in_float32(model, path)
        return openvino_core().compile_model(path, "CPU", options)


def profiled(network: "CompiledModel", runs: int, cache: int) -> list[Layer]:
    """All layers in order of execution, without constants and without layers that take no time."""
    request = network.create_infer_request()
    window_BCZYX = np.random.default_rng(0).standard_normal(list(network.input(0).shape), np.float32)
    fastest: dict[str, float] = {}
    for _ in range(runs):
        request.infer([window_BCZYX])
        for node in request.get_profiling_info():
            seconds = node.real_time.total_seconds()
            fastest[node.node_name] = min(seconds, fastest.get(node.node_name, seconds))
    nodes = network.get_runtime_model().get_ordered_ops()
    executed = [node for node in nodes if fastest.get(node.get_friendly_name()) and of(node, "layerType") != "Const"]
    executed.sort(key=lambda node: int(of(node, "execOrder")))
    return list(described(executed, fastest, cache))


def of(node: "Node", key: str) -> str:
    """An entry of OpenVINO's description of an executed layer."""
    return str(node.get_rt_info()[key].value)


def described(nodes: Iterable["Node"], seconds: dict[str, float], cache: int) -> Iterator[Layer]:
    """The layers. A layer that is not a convolution belongs to the stage of the one before."""
    stage, stages = "encoder 1", list[list[int]]()
    for node in nodes:
        output = list(node.get_output_shape(0))
        if "onvolution" in of(node, "layerType"):
            if output[2:] not in stages:
                stages.append(output[2:])
            side = "encoder" if ".encoder." in weights_of(node).get_friendly_name() else "decoder"
            stage = f"{side} {stages.index(output[2:]) + 1}"
        maps = list(maps_of(node))
        slow = sum(size for size in maps if size > cache)
        name = node.get_friendly_name()
        yield Layer(kind_of(node), stage, shape_of(node), macs_of(node), sum(maps), slow, seconds[name])


def sources_of(node: "Node") -> list["Node"]:
    """The layers that a layer reads."""
    return [value.get_node() for value in node.input_values()]


def weights_of(node: "Node") -> "Node":
    """The weights of a convolution."""
    return sources_of(node)[1]


def shape_of(node: "Node") -> str:
    """Channels in and out, and voxels of the output; without a convolution, those of the largest map."""
    output = node.get_output_shape(0)
    if "onvolution" in of(node, "layerType"):
        before = sources_of(node)[0].get_output_shape(0)[1]
        return f"{before} to {output[1]}, {'x'.join(map(str, list(output)[2:]))}"
    shapes = [list(one.get_output_shape(0)) for one in (node, *sources_of(node))]
    _, channels, *space = max((shape for shape in shapes if len(shape) == len(output)), key=prod)
    return f"{channels}, {'x'.join(map(str, space))}"


def maps_of(node: "Node") -> Iterator[int]:
    """Bytes of each input and of the output."""
    for one in (*sources_of(node), node):
        yield prod(one.get_output_shape(0)) * ELEMENT_BYTES[of(one, "outputPrecisions").split(",")[0]]


def kind_of(node: "Node") -> str:
    """The kind of a layer. What is fused into it counts with it."""
    kind = of(node, "layerType")
    if kind == "Convolution":
        return f"convolution {'x'.join(map(str, list(weights_of(node).get_output_shape(0))[2:]))}"
    if kind == "Subgraph" and any(step in of(node, "originalLayersNames") for step in NORM_STEPS):
        return "norm"
    return KINDS.get(kind, kind)


def macs_of(node: "Node") -> int:
    """Multiply-adds of a convolution, those of its padding included; else 0."""
    kind = of(node, "layerType")
    if "onvolution" not in kind:
        return 0
    moved = sources_of(node)[0] if kind == "Deconvolution" else node
    batch, _, *space = moved.get_output_shape(0)
    return batch * prod(space) * prod(weights_of(node).get_output_shape(0))


def print_heading(name: str, machine: Machine) -> None:
    """Say what was measured."""
    print(f"\n{name}, {platform.machine()}, load average {os.getloadavg()[0]:.1f}")
    print(
        f"convolution peak {machine.macs / 1e9:.0f} GMAC/s, memory {machine.bandwidth / 1e9:.1f} GB/s, "
        f"last cache {machine.cache / 2**20:.0f} MiB\n"
    )


def print_layers(layers: list[Layer], machine: Machine) -> None:
    """One row for all layers of one kind, stage and shape, then the total."""
    print("| kind | stage | shape | layers | GMAC | MB | ms | floor, ms | fraction |")
    print("|---|---|---|---|---|---|---|---|---|")
    groups: dict[tuple[str, str, str], list[Layer]] = {}
    for layer in layers:
        groups.setdefault((layer.stage, layer.kind, layer.shape), []).append(layer)
    for (stage, kind, shape), group in groups.items():
        if sum(layer.seconds for layer in group) >= 1e-3:
            print(f"| {kind} | {stage} | {shape} | {row(group, machine)} |")
    print(f"| all, also those under 1 ms | | | {row(layers, machine)} |")


def row(layers: list[Layer], machine: Machine) -> str:
    """The numbers of some layers together."""
    seconds, floor = sum(layer.seconds for layer in layers), sum(layer.floor(machine) for layer in layers)
    macs, size = sum(layer.macs for layer in layers) / 1e9, sum(layer.bytes for layer in layers) / 1e6
    return f"{len(layers)} | {macs:.2f} | {size:.0f} | {seconds * 1e3:.1f} | {floor * 1e3:.1f} | {floor / seconds:.2f}"


def print_shares(layers: list[Layer], machine: Machine) -> None:
    """The share of each kind, and of the two stages at full resolution."""
    total = sum(layer.seconds for layer in layers)
    print("\n| part | layers | GMAC | MB | ms | floor, ms | fraction | share |\n|---|---|---|---|---|---|---|---|")
    parts = {kind: [layer for layer in layers if layer.kind == kind] for kind in {layer.kind: None for layer in layers}}
    for stage in ("encoder 1", "decoder 1"):
        parts[f"all of {stage}"] = [layer for layer in layers if layer.stage == stage]
    for name, part in parts.items():
        share = sum(layer.seconds for layer in part) / total
        print(f"| {name} | {row(part, machine)} | {share:.1%} |")


if __name__ == "__main__":
    main()
