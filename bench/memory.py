"""What holds the memory of `stunet predict`: resident memory after each of its stages, and the peak within each.

The scan is that of `bench/inference.py`: 458x379x224 voxels of 0.8x0.8x1.5 mm. The command runs in a process of its
own, which looks at itself whenever a stage ends. It runs twice, and the second run counts: the first compiles. "Files"
are pages of mapped files: libraries, weights, and large arrays on disk. Weights are random unless a model is given.

    python bench/memory.py [--model FILE.safetensors] [--precision auto] [--step 1.0]   # the step changes no memory
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any

SHAPE, SPACING_MM = (458, 379, 224), (0.8, 0.8, 1.5)
CLASSES = 105


@dataclass(frozen=True)
class Stage:
    """The memory of the process at the end of a stage, in bytes.

    Attributes:
        name: of the stage.
        resident: all that is resident: `anonymous` and `files`.
        anonymous: the process's own.
        files: pages of mapped files.
        peak: the most that was resident since the stage before.
    """

    name: str
    resident: int
    anonymous: int
    files: int
    peak: int


class Observer:
    """Notes the memory of this process at the end of stages."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    def note(self, name: str) -> None:
        """End a stage."""
        text = Path("/proc/self/status").read_text()
        status = {key: value for key, _, value in (line.partition(":") for line in text.splitlines())}
        resident, anonymous, files, shared, peak = (
            int(status[key].split()[0]) * 1024 for key in ("VmRSS", "RssAnon", "RssFile", "RssShmem", "VmHWM")
        )
        self.stages.append(Stage(name, resident, anonymous, files + shared, peak))
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak

    def after(self, owner: Any, function: str, *names: str) -> None:
        """Note the first calls of a function of a module or class, one name each."""
        original: Callable[..., Any] = getattr(owner, function)
        left = list(names)

        @wraps(original)
        def observed(*arguments: Any, **options: Any) -> Any:
            """Call it."""
            result = original(*arguments, **options)
            if left:
                self.note(left.pop(0))
            return result

        setattr(owner, function, observed)


def main() -> None:
    """Run the command twice in a child process, and print the table of the second run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--step", default="1.0")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "stunet-bench")
    parser.add_argument("--observe", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.observe is not None:
        print(json.dumps([asdict(stage) for stage in observed_stages(asked.observe)]))
        return
    with tempfile.TemporaryDirectory() as folder:
        print_table(measured(asked, Path(folder)), asked)


def measured(asked: argparse.Namespace, work: Path) -> list[Stage]:
    """The stages of the second run."""
    from inference_memory import random_model
    from make_ct import make_ct

    from stunet.weights.model_file import save_model

    name = "_".join(map(str, asked.shape))
    scan = make_ct(asked.cache / f"memory_{name}.nii.gz", asked.shape, SPACING_MM)
    model = asked.model or work / "random.safetensors"
    if asked.model is None:
        random = random_model(CLASSES)
        save_model(model, random.networks[0].state_dict(), random.card)
    command = [sys.executable, __file__, "--observe", "predict", "-i", str(scan), "-o", str(work / "labels.nii.gz")]
    command += ["-m", str(model), "--device", "cpu", "--precision", asked.precision, "--step", asked.step]
    for _ in range(2):
        child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [Stage(**stage) for stage in json.loads(child.stdout.splitlines()[-1])]


def observed_stages(arguments: list[str]) -> list[Stage]:
    """Run a command of stunet in this process."""
    observer = Observer()
    observer.note("python")
    from stunet.batch import predict_cases
    from stunet.cli.main import main as stunet

    observer.note("the command line")
    observer.after(predict_cases, "as_volume", "the scan is read")
    from stunet.inference import predictor
    from stunet.inference.backends.openvino_backend import OpenVinoBackend
    from stunet.weights import model

    observer.note("torch and the predictor")
    observer.after(model, "load_model", "the model is loaded")
    observer.after(predictor.Predictor, "__init__", "the network is compiled")
    observer.after(predictor, "prepare", "preprocessing is prepared")
    observer.after(OpenVinoBackend, "run", "the first window", "the second window")
    observer.after(predictor.Predictor, "_labels", "all windows and labels")
    sys.argv = ["stunet", *arguments]
    try:
        stunet()
    except SystemExit as end:
        if end.code:
            raise
    observer.note("the labels are written")
    return observer.stages


def print_table(stages: list[Stage], asked: argparse.Namespace) -> None:
    """Print MiB, and the peak of the whole."""
    print(f"CT of {'x'.join(map(str, asked.shape))} voxels, {CLASSES} classes, STU-Net-S, {asked.precision}")
    print(f"{platform.machine()}, {os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}; MiB\n")
    print("| until | resident | its own | files | peak since the line above |\n|---|---|---|---|---|")
    for stage in stages:
        sizes = (stage.resident, stage.anonymous, stage.files, stage.peak)
        print(f"| {stage.name} | {' | '.join(f'{size / 2**20:.0f}' for size in sizes)} |")
    print(f"\npeak: {max(stage.peak for stage in stages) / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
