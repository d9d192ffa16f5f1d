"""The other systems of `bench/inference.py`: the same weights and plan, each with the settings that its users have.

nnU-Net runs without mirroring: with its other defaults, with windows that do not overlap (`-step_size 1.0`), and
compiled by torch (`nnUNet_compile`). `-npp` and `-nps` are processes for preprocessing and saving. For one scan more
than one of each only costs memory, so they are 1. MONAI's sliding window runs the network by torch, by ONNX Runtime in
float32, and by ONNX Runtime in 8-bit integers (`bench/onnx_int8.py`).
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agreement import NNUNET_COMMAND
from runs import CommandError, Run, measured

from stunet.inference.export import export_model
from stunet.weights.model import load_model

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Place:
    """What every system gets.

    Attributes:
        scan: to segment.
        folder: of the model, in nnU-Net's layout.
        work: for files.
        environment: variables of the command.
    """

    scan: Path
    folder: Path
    work: Path
    environment: dict[str, str]

    def labels(self, name: str) -> Path:
        """A new folder's label file. nnU-Net names it after the scan."""
        folder = self.work / name.replace(" ", "_").replace(",", "")
        folder.mkdir()
        return folder / self.scan.name.replace("_0000.nii.gz", ".nii.gz")


def run_peers(names: list[str], place: Place) -> list[Run]:
    """Measure each peer; one that cannot run here is reported and left out."""
    runs = []
    for name in names:
        try:
            runs.append(PEERS[name](name, place))
        except CommandError as error:
            print(error, file=sys.stderr)
        else:
            print(f"{name}: {runs[-1].seconds:.1f} s", file=sys.stderr)
    return runs


def nnunet(name: str, place: Place, options: tuple[str, ...] = (), compiled: bool = False) -> Run:
    """nnU-Net's command, without mirroring, with one process per stage."""
    images = place.work / "images"
    images.mkdir(exist_ok=True)
    if not (link := images / place.scan.name).exists():
        link.symlink_to(place.scan.resolve())
    labels = place.labels(name)
    command = [sys.executable, "-c", NNUNET_COMMAND, "-i", str(images), "-o", str(labels.parent)]
    command += ["-m", str(place.folder), "-f", "0", "--disable_tta", "-device", "cpu", "-npp", "1", "-nps", "1"]
    environment = {**place.environment, "nnUNet_compile": "true" if compiled else "false"}
    return measured(name, [*command, *options], labels, environment)


def monai(name: str, place: Place, runtime: str = "torch") -> Run:
    """MONAI's sliding window with the same network. Making the ONNX file is not measured."""
    network = place.folder
    if runtime != "torch":
        network = place.work / "network.onnx"
        if not network.exists():
            export_model(load_model(place.folder), "onnx", network)
    if runtime == "int8":
        floats, network = network, place.work / "int8.onnx"
        script = [sys.executable, str(HERE / "onnx_int8.py"), str(place.scan), str(place.folder)]
        measured("quantising", [*script, str(floats), str(network)], network, place.environment)
    labels = place.labels(name)
    command = [sys.executable, str(HERE / "monai_windows.py"), str(place.scan), str(place.folder), str(labels)]
    return measured(name, [*command, str(network)], labels, place.environment)


PEERS: dict[str, Callable[[str, Place], Run]] = {
    "nnU-Net 2.8": nnunet,
    "nnU-Net 2.8, compiled": partial(nnunet, compiled=True),
    "nnU-Net 2.8, step 1.0": partial(nnunet, options=("-step_size", "1.0")),
    "MONAI's inferer": monai,
    "MONAI's inferer, ONNX Runtime": partial(monai, runtime="onnx"),
    "MONAI's inferer, ONNX Runtime int8": partial(monai, runtime="int8"),
}
"""System -> how to run it. The first is what the others are compared with."""
