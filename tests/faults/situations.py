"""Commands that write files, and what they are given."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from stunet.batch.settings import BatchFolder
from stunet.batch.start import start_batch
from stunet.batch.worker import work
from tests.batch.batches import settings, write_scans
from tests.faults.kill_points import command
from tests.inference.samples import save_tiny_model
from tests.weights.samples import network, write_v1

OUT = "out"
"""Name of the folder that is watched."""


@dataclass(frozen=True)
class Situation:
    """A command that is disturbed, and the command that completes its work.

    Attributes:
        arguments: of the function, for a folder with what `given` wrote.
        given: writes inputs into a folder.
        again: arguments of the run afterwards; the same if None.
        function: is called in a process of its own.
    """

    arguments: Callable[[Path], Sequence[Any]]
    given: Callable[[Path], None]
    again: Callable[[Path], Sequence[Any]] | None = None
    function: Callable[..., Any] = command

    def next_arguments(self, folder: Path) -> Sequence[Any]:
        """Of the run after a disturbed one."""
        return (self.again or self.arguments)(folder)


def _scans_and_model(folder: Path) -> None:
    write_scans(folder / "scans", ["a", "b"])
    save_tiny_model(folder / "tiny.safetensors")


def _predicted_before(folder: Path) -> None:
    """Labels of another scan have the name of the output."""
    _scans_and_model(folder)
    (folder / OUT).mkdir()
    shutil.copy(folder / "scans" / "b.nii.gz", folder / OUT / "a.nii.gz")


def _predict(*options: str, source: str = "scans/a.nii.gz", output: str = f"{OUT}/a.nii.gz") -> Any:
    def arguments(folder: Path) -> Sequence[Any]:
        files = ("-i", str(folder / source), "-o", str(folder / output), "-m", str(folder / "tiny.safetensors"))
        return [["predict", *files, "--backend", "torch", "--quiet", *options]]

    return arguments


def _given_batch(folder: Path) -> None:
    _scans_and_model(folder)
    start_batch([str(folder / "scans")], folder / OUT, settings(folder / "tiny.safetensors"))


def work_on(folder: Path) -> None:
    """A worker of a batch, in this process."""
    work(BatchFolder(folder), Event())


def _given_checkpoint(folder: Path) -> None:
    write_v1(folder / "trained.model", network(num_classes=105).state_dict())
    save_tiny_model(folder / "tiny.safetensors")


def _weights(action: str, *words: str) -> Any:
    return lambda folder: [["weights", action, *(word.format(folder) for word in words), "--quiet"]]


def _export(kind: str, name: str) -> Any:
    return lambda folder: [
        ["export", "-m", str(folder / "tiny.safetensors"), "--to", kind, "-o", str(folder / OUT / name), "--quiet"]
    ]


SITUATIONS: Mapping[str, Situation] = {
    "predict, one scan": Situation(_predict("--statistics", "--preview"), _scans_and_model),
    "predict, over older labels": Situation(_predict(), _predicted_before),
    "predict, a folder as masks": Situation(
        _predict("--separate", source="scans", output=OUT),
        _scans_and_model,
        _predict("--separate", "--resume", source="scans", output=OUT),
    ),
    "batch, a worker": Situation(lambda folder: [folder / OUT], _given_batch, function=work_on),
    "weights import": Situation(
        _weights("import", "{0}/trained.model", "-o", "{0}/out/model.safetensors", "--strides", *"222222222222112"),
        _given_checkpoint,
    ),
    "weights export": Situation(
        _weights("export", "-m", "{0}/tiny.safetensors", "-o", "{0}/out/model.pth"), _given_checkpoint
    ),
    "export to ONNX": Situation(_export("onnx", "model.onnx"), _given_checkpoint),
    "export to OpenVINO": Situation(_export("openvino", "model.xml"), _given_checkpoint),
    "export as a MONAI bundle": Situation(_export("monai-bundle", "bundle"), _given_checkpoint),
}
