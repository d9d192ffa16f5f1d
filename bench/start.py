"""Time until the first window: a bare interpreter, torch, this package, then the scan and the model.

Each line is the median of several separate processes, timed from outside. Up to the model, it includes everything in
the lines above. The model is loaded twice beforehand, so that OpenVINO's compiled network is cached.

The floor is what no program of this kind can do without: Python, numpy, OpenVINO, and gzip for the scan and its labels.

    python bench/start.py [--model hippocampus] [--scan SCAN.nii.gz] [--rounds 5]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SCAN = Path("data") / "Dataset004_Hippocampus" / "imagesTr" / "hippocampus_001_0000.nii.gz"

READ = "from stunet.imaging.formats.registry import read_volume; read_volume({scan!r})"
LOAD = "from stunet.inference.predictor import Predictor; Predictor({model!r})"
PREDICTOR = "import torch, stunet.cli.main, stunet.batch.request, stunet.inference.predictor"
FLOOR = (
    "import gzip, numpy, openvino; openvino.Core(); "
    "voxels = len(gzip.open({scan!r}).read()) // 2; gzip.compress(bytes(voxels), 1)"
)
PROGRAMS = {
    "python": "pass",
    "numpy": "import numpy",
    "torch": "import torch",
    "stunet's command line": "import torch, stunet.cli.main",
    "the predictor": PREDICTOR,
    "the scan is read": f"{PREDICTOR}; {READ}",
    "the model is ready": f"{PREDICTOR}; {READ}; {LOAD}",
}
"""Name -> program."""

Command = tuple[list[str], dict[str, str]]
"""The words, and variables of the environment."""


def seconds_of(command: Command) -> tuple[float, float]:
    """Seconds from the start of a process to its end, and those of the processors."""
    words, variables = command
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, **variables})
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands_for(model: str, scan: Path, labels: Path) -> dict[str, Command]:
    """All that is timed, by name."""
    programs = {**PROGRAMS, "the floor": FLOOR}
    commands: dict[str, Command] = {
        name: ([sys.executable, "-c", program.format(scan=str(scan), model=model)], {})
        for name, program in programs.items()
    }
    stunet = str(Path(sys.executable).with_name("stunet"))
    predict = [stunet, "predict", "-i", str(scan), "-o", str(labels), "-m", model]
    commands["`stunet --help`"] = [stunet, "--help"], {}
    commands["`stunet predict`"] = predict, {}
    commands["`stunet predict`, spinning threads"] = predict, {"OMP_WAIT_POLICY": "ACTIVE"}
    return commands


def main() -> None:
    """Time each program several times, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--scan", type=Path, default=shared / SCAN)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        commands = commands_for(asked.model, asked.scan, Path(temporary) / "labels.nii.gz")
        for _ in range(2):
            seconds_of(commands["the model is ready"])
        rounds = [{name: seconds_of(command) for name, command in commands.items()} for _ in range(asked.rounds)]
    print("| until | seconds | of the processors |")
    print("|---|---|---|")
    for name in commands:
        wall, processors = (statistics.median(seconds[name][kind] for seconds in rounds) for kind in (0, 1))
        print(f"| {name} | {wall:.2f} | {processors:.2f} |")


if __name__ == "__main__":
    main()
