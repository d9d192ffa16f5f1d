"""Seconds and memory of a window, for windows that run one by one, in a batch, or in two streams of one thread each.

Two streams segment two windows at the same time. Each setting runs in its own process; all take turns, and the fastest
round counts. The processor's seconds tell what another program on the machine has disturbed. Weights are random.

    python bench/streams.py [--size small] [--precision bfloat16 float32] [--rounds 3]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from inference_memory import peak_bytes
from layers import compiled

from stunet.inference.backends.openvino_backend import HINTS
from stunet.inference.backends.precision import Precision
from stunet.networks.stunet import SIZES

WINDOWS = 4


@dataclass(frozen=True)
class Setting:
    """How windows run.

    Attributes:
        size, precision: of the network.
        batch: windows in one call.
        streams: calls at the same time.
        threads: of all streams together.
    """

    size: str
    precision: Precision
    batch: int
    streams: int
    threads: int


@dataclass(frozen=True)
class Result:
    """Seconds of the clock and of the processor for one window, and the peak memory of the process in bytes."""

    seconds: float
    processor: float
    peak: int


def main() -> None:
    """Measure in child processes, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--precision", nargs="+", choices=list(HINTS), default=list(HINTS))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure is not None:
        print(json.dumps(asdict(measured(Setting(**json.loads(asked.measure))))))
        return
    print(f"{asked.size}, {asked.threads} threads, load average {os.getloadavg()[0]:.1f}\n")
    print("| precision | batch | streams | a window, s | of the processor, s | peak GiB |\n|---|---|---|---|---|---|")
    for precision in asked.precision:
        ways = [(1, 1), (2, 1), (1, asked.threads)]
        settings = [Setting(asked.size, precision, batch, streams, asked.threads) for batch, streams in ways]
        rounds = [[in_child(setting) for setting in settings] for _ in range(asked.rounds)]
        for setting, results in zip(settings, zip(*rounds, strict=True), strict=True):
            print_row(setting, results)


def print_row(setting: Setting, results: tuple[Result, ...]) -> None:
    """The fastest round of a setting."""
    seconds, processor = (min(getattr(result, name) for result in results) for name in ("seconds", "processor"))
    print(
        f"| {setting.precision} | {setting.batch} | {setting.streams} | {seconds:.3f} | {processor:.3f} "
        f"| {max(result.peak for result in results) / 2**30:.2f} |",
        flush=True,
    )


def in_child(setting: Setting) -> Result:
    """The result of a process of its own."""
    command = [sys.executable, __file__, "--measure", json.dumps(asdict(setting))]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Result(**json.loads(child.stdout.splitlines()[-1]))


def measured(setting: Setting) -> Result:
    """Run `WINDOWS` windows after as many that warm up."""
    from openvino import AsyncInferQueue

    torch.set_num_threads(setting.threads)
    network = compiled(
        setting.size, setting.precision, setting.batch, setting.threads, setting.streams, is_profiled=False
    )
    window_BCZYX = np.random.default_rng(0).standard_normal(list(network.input(0).shape), np.float32)
    queue = AsyncInferQueue(network, setting.streams)
    for _ in range(2):
        start, processor = time.perf_counter(), time.process_time()
        for _ in range(WINDOWS // setting.batch):
            queue.start_async({0: window_BCZYX})
        queue.wait_all()
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return Result(seconds / WINDOWS, processor / WINDOWS, peak_bytes())


if __name__ == "__main__":
    main()
