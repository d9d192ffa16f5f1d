"""Accuracy loss and speed gain of 8-bit integers against bfloat16: post-training quantisation with NNCF, OpenVINO.

NNCF is not part of stunet's environment (`pip install nncf`). Without --model, the bundled model is tested on
hippocampi from its validation set and calibrated on some from its training set. With --model, a model that segments the
shared CT (made by `bench/fit_ct.py`) is calibrated with windows of that same CT, which makes it look better.

    python bench/int8.py [--model ct.safetensors] [--recipes mixed ...] [--threads 2]
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from stunet.errors import UserError
from stunet.evaluation.dice import dice_per_label
from stunet.imaging.formats.registry import read_volume
from stunet.imaging.volume import Volume
from stunet.inference.backends.base import Backend
from stunet.inference.backends.maps import WindowMaps, head_of
from stunet.inference.backends.openvino_backend import OpenVinoBackend, openvino_core
from stunet.inference.onnx_translation import build_graph, instance_norm_in_one_node
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.networks.fuse import fuse
from stunet.networks.stunet import STUNet
from stunet.weights.model import Model, load_model

if TYPE_CHECKING:
    from openvino import Model as OpenVinoModel
    from openvino import Node

REPOSITORY = Path(__file__).resolve().parents[1]
BAR, LEAST_VOXELS = 0.995, 100
CALIBRATION_CASES = 20

Choice = Callable[[Sequence["Node"]], Sequence["Node"]]
"""Takes all convolutions, in order of computation, and returns those that stay in bfloat16."""


@dataclass(frozen=True)
class Recipe:
    """One way to quantise.

    Attributes:
        preset: "performance" for symmetric activations, "mixed" for asymmetric ones.
        floats: the convolutions that are not quantised.
        fast_bias_correction: whether biases are corrected only from statistics of the float network.
        float_kinds: kinds of other nodes whose inputs are not quantised.
    """

    preset: str = "mixed"
    floats: Choice = lambda convolutions: ()
    fast_bias_correction: bool = True
    float_kinds: tuple[str, ...] = ()


def _ends(convolutions: Sequence["Node"]) -> list["Node"]:
    """The first, the last, and the transposed convolutions; OpenVINO has no 8-bit kernel for the latter."""
    transposed = [node for node in convolutions if node.get_type_name() == "ConvolutionBackpropData"]
    return [convolutions[0], *transposed, convolutions[-1]]


def _narrow(convolutions: Sequence["Node"]) -> list["Node"]:
    """The ends and all 1x1x1 convolutions: without a norm, values on the decoder's shortcuts grow to thousands."""
    return [*_ends(convolutions), *(node for node in convolutions if set(node.get_input_shape(1)[2:]) == {1})]


def _narrow_and_late(convolutions: Sequence["Node"]) -> list["Node"]:
    """Also the last three 3x3x3 convolutions."""
    narrow = _narrow(convolutions)
    return [*narrow, *[node for node in convolutions if node not in narrow][-3:]]


def _narrow_and_large(convolutions: Sequence["Node"]) -> list["Node"]:
    """Also all whose output is as large as the image."""
    sizes = {node: node.get_output_shape(0)[2:] for node in convolutions}
    return [*_narrow(convolutions), *(node for node in convolutions if sizes[node] == sizes[convolutions[0]])]


ROUNDED = ("Add", "Interpolate", "MVN", "PRelu")
"""Other nodes whose inputs NNCF quantises."""

RECIPES = {
    "performance": Recipe("performance"),
    "mixed": Recipe(),
    "mixed, ends float": Recipe(floats=_ends),
    "mixed, ends float, slow bias correction": Recipe(floats=_ends, fast_bias_correction=False),
    "3x3x3 alone": Recipe(floats=_narrow, float_kinds=ROUNDED),
    "3x3x3 but the last three": Recipe(floats=_narrow_and_late, float_kinds=ROUNDED),
    "3x3x3 but those of full resolution": Recipe(floats=_narrow_and_large, float_kinds=ROUNDED),
}


@dataclass(frozen=True)
class Task:
    """A model, its calibration scans, and its test scans."""

    model: Model
    calibration: list[Volume]
    scans: list[Volume]


class RecordingBackend:
    """Wraps a backend and records its input windows (1, C, Z, Y, X); implements `Backend`."""

    def __init__(self, backend: Backend):
        self.name, self.precision = backend.name, backend.precision
        self.device, self.head = backend.device, backend.head
        self.allocates_by_torch = backend.allocates_by_torch
        self.windows: list[np.ndarray] = []
        self._run = backend.run

    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The wrapped backend's output."""
        self.windows += [window_CZYX[None].numpy().copy() for window_CZYX in windows_BCZYX]
        return self._run(windows_BCZYX)


class QuantisedBackend(OpenVinoBackend):
    """A quantised network whose other parts are in bfloat16; implements `Backend`."""

    def __init__(self, like: Backend, network: "OpenVinoModel"):
        import openvino
        from openvino.preprocess import PrePostProcessor

        steps = PrePostProcessor(network)
        steps.output().tensor().set_element_type(openvino.Type.bf16)
        self.device, self.precision, self.head = like.device, "bfloat16", like.head
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = openvino_core().compile_model(steps.build(), "CPU", options)
        self._threads = threading.local()


def import_nncf() -> ModuleType:
    """Import NNCF with its telemetry turned off; by default it reports to its makers over the internet."""
    os.environ["NNCF_CI"] = "1"
    try:
        import nncf
    except ImportError as error:
        raise UserError("This measurement needs nncf, which is not here: pip install nncf.") from error
    nncf.set_log_level(40)
    return nncf


def float_network(model: Model) -> "OpenVinoModel":
    """The network as `OpenVinoBackend` builds it for bfloat16."""
    networks = [network for network in model.networks if isinstance(network, STUNet)]
    size = tuple(model.plan.patch_size)
    graph = build_graph(
        WindowMaps(networks, [fuse(network) for network in networks]).eval(),
        (1, networks[0].input_channels, *size),
        "maps",
        (1, *size, head_of(networks, torch.device("cpu")).num_features),
        {functional.instance_norm: instance_norm_in_one_node},
    )
    with tempfile.TemporaryDirectory() as folder:
        source, *_ = graph.save(Path(folder) / "model.onnx")
        return openvino_core().read_model(source)


def convolutions_of(network: "OpenVinoModel") -> list["Node"]:
    """All convolutions, including transposed ones, in order of computation."""
    return [node for node in network.get_ordered_ops() if node.get_type_name().startswith("Convolution")]


def quantised(model: Model, windows: list[np.ndarray], recipe: Recipe) -> tuple["OpenVinoModel", int]:
    """A network with 8-bit convolutions, and their number."""
    nncf = import_nncf()
    network = float_network(model)
    convolutions = convolutions_of(network)
    floats = {node.get_friendly_name() for node in recipe.floats(convolutions)}
    network = nncf.quantize(
        network,
        nncf.Dataset(windows),
        subset_size=len(windows),
        preset=nncf.QuantizationPreset(recipe.preset),
        fast_bias_correction=recipe.fast_bias_correction,
        ignored_scope=nncf.IgnoredScope(names=sorted(floats), types=list(recipe.float_kinds), validate=False),
    )
    return network, len(convolutions) - len(floats)


def hippocampi(data: Path, cases: int) -> Task:
    """The bundled model with cases from both sides of its fold, which nnU-Net drew with this seed."""
    from sklearn.model_selection import KFold

    images = {path.name.removesuffix("_0000.nii.gz"): path for path in (data / "imagesTr").glob("*.nii.gz")}
    names = np.array(sorted(images))
    train, validation = (names[part].tolist() for part in next(KFold(5, shuffle=True, random_state=12345).split(names)))
    calibration = train[:: len(train) // CALIBRATION_CASES][:CALIBRATION_CASES]
    judged = validation[:: max(1, len(validation) // cases)][:cases]
    scans = ([read_volume(images[name]) for name in names] for names in (calibration, judged))
    return Task(load_model("hippocampus"), *scans)


def the_ct(data: Path, model: Path) -> Task:
    """A model fitted to the shared CT, with that CT."""
    scan = read_volume(data / "ct.nii.gz")
    return Task(load_model(model), [scan], [scan])


def recorded_windows(predictor: Predictor, scans: list[Volume], most: int) -> list[np.ndarray]:
    """Windows from actual predictions, spread evenly over all."""
    backend = predictor.backend
    predictor.backend = recorder = RecordingBackend(backend)
    for scan in scans:
        predictor.predict(scan)
    predictor.backend = backend
    places = np.linspace(0, len(recorder.windows) - 1, min(most, len(recorder.windows))).astype(int)
    return [recorder.windows[place] for place in places]


def agreements(labels: list[np.ndarray], exact: list[np.ndarray]) -> dict[tuple[int, int], float]:
    """DSC by scan and label, for labels with more than `LEAST_VOXELS` in float32."""
    found = {}
    for number, (one_ZYX, other_ZYX) in enumerate(zip(labels, exact, strict=True)):
        counts = np.bincount(other_ZYX.ravel())
        present = [label for label in np.flatnonzero(counts > LEAST_VOXELS).tolist() if label]
        scores = dice_per_label(one_ZYX, other_ZYX, present)
        found.update({(number, label): dsc for label, dsc in scores.items()})
    return found


def seconds_in_turns(backends: dict[str, Backend], window: np.ndarray, rounds: int) -> dict[str, float]:
    """Median seconds of one window."""
    window_BCZYX = torch.from_numpy(window)
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    for number in range(rounds + 1):
        for name, backend in backends.items():
            start = time.perf_counter()
            backend.run(window_BCZYX)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_row(numbers: str, convolutions: int, found: Mapping[tuple[int, int], float]) -> None:
    """Print how well a number format preserves the labels."""
    values = list(found.values())
    reach = f"{sum(dsc >= BAR for dsc in values)} of {len(values)}"
    quality = f"{statistics.mean(values):.4f} | {min(values):.4f} | {reach}"
    print(f"| {numbers} | {convolutions} | {quality} |", flush=True)


def print_structures(names: Mapping[int, str], scores: Mapping[str, Mapping[tuple[int, int], float]]) -> None:
    """Print the lowest DSC of each structure over all scans, one column per number format."""
    print(f"\n| lowest DSC of | {' | '.join(scores)} |\n|{'---|' * (len(scores) + 1)}")
    for label in sorted({label for found in scores.values() for _, label in found}):
        lowest = (min(dsc for (_, other), dsc in found.items() if other == label) for found in scores.values())
        print(f"| {names[label]} | {' | '.join(f'{dsc:.4f}' for dsc in lowest)} |", flush=True)


def print_speeds(seconds: Mapping[str, float]) -> None:
    """Print one row per number format."""
    print("\n| numbers | a window, s | times faster than bfloat16 |\n|---|---|---|")
    for name, median in seconds.items():
        print(f"| {name} | {median:.4f} | {seconds['bfloat16'] / median:.2f} |", flush=True)


def measure(task: Task, recipes: Sequence[str], most_windows: int, rounds: int) -> None:
    """Predict with each number format, then time one window of each in turns. Rows are printed as soon as possible."""
    exact, coarse = (
        Predictor(task.model, InferenceConfig(device="cpu", backend="openvino", precision=precision))
        for precision in ("float32", "bfloat16")
    )
    backends = {"float32": exact.backend, "bfloat16": coarse.backend}
    windows = recorded_windows(exact, task.calibration, most_windows)
    print(
        f"{len(windows)} calibration windows of {'x'.join(map(str, windows[0].shape[2:]))}; {len(task.scans)} scans\n"
    )
    print("| numbers | 8-bit convolutions | mean DSC | lowest | reach 0.995 |\n|---|---|---|---|---|", flush=True)
    labels = [exact.predict(scan).labels for scan in task.scans]
    scores = {"bfloat16": agreements([coarse.predict(scan).labels for scan in task.scans], labels)}
    print_row("bfloat16", 0, scores["bfloat16"])
    for recipe in recipes:
        name = f"int8, {recipe}"
        network, convolutions = quantised(task.model, windows, RECIPES[recipe])
        coarse.backend = backends[name] = QuantisedBackend(coarse.backend, network)
        scores[name] = agreements([coarse.predict(scan).labels for scan in task.scans], labels)
        print_row(name, convolutions, scores[name])
    print_structures(task.model.names, scores)
    print_speeds(seconds_in_turns(backends, windows[0], rounds))


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--model", type=Path, help="fitted to the shared CT")
    parser.add_argument("--cases", type=int, default=20, help="number of hippocampi to test on")
    parser.add_argument("--windows", type=int, default=20, help="maximum number of calibration windows")
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    try:
        import_nncf()
        data = asked.data
        task = (
            hippocampi(data / "Dataset004_Hippocampus", asked.cases)
            if asked.model is None
            else the_ct(data / "totalseg_example", asked.model)
        )
    except UserError as error:
        raise SystemExit(str(error)) from error
    measure(task, asked.recipes, asked.windows, asked.rounds)


if __name__ == "__main__":
    main()
