"""Compare measured peak memory of prediction with torch to the estimate of `stunet models --fit`. The limit is 15 %.

Each row is a separate process that slides a window over noise, one window deep. The peak is VmHWM minus the memory
before the network was built; by then the process had predicted with a small network, which loads kernels. malloc is set
to return freed memory at once, as in training_memory.py.

    python bench/prediction_memory.py --sizes small base --window 128 128 128 --plane 160 160
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from training_memory import MALLOC, forget_peak, status_bytes

from stunet.inference.backends.torch_backend import TorchBackend
from stunet.inference.prediction_memory import prediction_memory
from stunet.inference.sliding import Sliding, feature_planes
from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import SIZES


@dataclass(frozen=True)
class Row:
    """What a child process measures."""

    size: str
    precision: str
    window: list[int]
    plane: list[int]
    classes: int
    threads: int


def main() -> None:
    """Measure each row in a child process, and print it at once."""
    asked = parsed_arguments()
    if asked.measure is not None:
        print(json.dumps(measured(Row(**json.loads(asked.measure)))))
        return
    print(f"{platform.machine()}, {asked.threads} threads, torch {torch.__version__}, {asked.classes} classes")
    print(f"window {'x'.join(map(str, asked.window))}, plane {'x'.join(map(str, asked.plane))}\n")
    print("| size | precision | imports, GB | predicted, GB | measured, GB | seconds | ratio |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for size in asked.sizes:
        for precision in asked.precisions:
            row = Row(size, precision, asked.window, asked.plane, asked.classes, asked.threads)
            print(line(row, in_child(row)), flush=True)


def parsed_arguments() -> argparse.Namespace:
    """The options; `--measure` is for the child process only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small", "base", "large"])
    parser.add_argument("--precisions", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--window", nargs=3, type=int, default=[128, 128, 128])
    parser.add_argument("--plane", nargs=2, type=int, default=[160, 160])
    parser.add_argument("--classes", type=int, default=105)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_child(row: Row) -> dict[str, Any]:
    """The output of the child process."""
    command = [sys.executable, __file__, "--measure", json.dumps(asdict(row))]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **MALLOC})
    return json.loads(child.stdout.splitlines()[-1])


def line(row: Row, found: dict[str, Any]) -> str:
    """One row of the table."""
    config = network_spec(row.size, 1, row.classes)
    (z, y, x), (rows, columns) = row.window, row.plane
    predicted = prediction_memory(config, (z, y, x), row.precision, (rows, columns)).peak  # type: ignore[arg-type]
    return (
        f"| {row.size} | {row.precision} | {found['before'] / 1e9:.2f} | {predicted / 1e9:.2f} "
        f"| {found['peak'] / 1e9:.2f} | {found['seconds']:.1f} | {found['peak'] / predicted:.3f} |"
    )


def measured(row: Row) -> dict[str, float]:
    """Bytes before and at the peak, and seconds, of this process."""
    torch.set_num_threads(row.threads)
    slide("tiny", row.precision, 3, (64, 64, 64), (64, 64))
    before = status_bytes("VmRSS")
    forget_peak("cpu")
    start = time.perf_counter()
    slide(row.size, row.precision, row.classes, tuple(row.window), tuple(row.plane))
    return {"before": before, "peak": status_bytes("VmHWM") - before, "seconds": time.perf_counter() - start}


@dataclass(frozen=True, eq=False)
class WholeImage:
    """A `PlaneSource` in memory."""

    array: torch.Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, Z, Y, X)."""
        channels, depth, rows, columns = self.array.shape
        return channels, depth, rows, columns

    def planes(self, start: int, stop: int) -> torch.Tensor:
        """A view."""
        return self.array[:, start:stop]


def slide(size: str, precision: Any, classes: int, window: tuple[int, ...], plane: tuple[int, ...]) -> None:
    """Predict all planes of an image that is one window deep."""
    network = build(network_spec(size, 1, classes)).eval()
    backend = TorchBackend([network], torch.device("cpu"), precision)
    image = WholeImage(torch.randn(1, window[0], *plane))
    z, y, x = window
    for _ in feature_planes(image, backend, Sliding((z, y, x))):
        pass


if __name__ == "__main__":
    main()
