"""Time until the first window: a bare interpreter, torch, this package, then the scan and the model.

Each line is the median of several separate processes, timed from outside, and includes everything in the lines above.
The model is loaded twice beforehand, so that OpenVINO's compiled network is cached.

    python bench/start.py [--model hippocampus] [--scan SCAN.nii.gz] [--rounds 5]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SCAN = Path("data") / "Dataset004_Hippocampus" / "imagesTr" / "hippocampus_001_0000.nii.gz"

READ = "from stunet.imaging.formats.registry import read_volume; read_volume({scan!r})"
LOAD = "from stunet.inference.predictor import Predictor; Predictor({model!r})"
PREDICTOR = "import torch, stunet.cli.main, stunet.batch.request, stunet.inference.predictor"
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


def seconds_of(command: list[str]) -> float:
    """Seconds from the start of a process to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Time each program several times, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--scan", type=Path, default=shared / SCAN)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    commands = {
        name: [sys.executable, "-c", program.format(scan=str(asked.scan), model=asked.model)]
        for name, program in PROGRAMS.items()
    }
    commands["`stunet --help`"] = [str(Path(sys.executable).with_name("stunet")), "--help"]
    for _ in range(2):
        seconds_of(commands["the model is ready"])
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(asked.rounds):
        for name, command in commands.items():
            seconds[name].append(seconds_of(command))
    print("| until | seconds |")
    print("|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} | {statistics.median(taken):.2f} |")


if __name__ == "__main__":
    main()
