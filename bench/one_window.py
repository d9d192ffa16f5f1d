"""Run one window of 128x128x128 voxels through an STU-Net of any size: seconds, peak memory, and swapped memory.

python bench/one_window.py [--size huge] [--backend torch] [--precision float32] [--classes 105]
"""

import argparse
import os
import time
from pathlib import Path

import torch

from stunet.allocator import keep_freed_memory
from stunet.inference.backends.registry import BACKENDS
from stunet.networks.cost import count_macs
from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import PUBLISHED_STRIDES

WINDOW = (128, 128, 128)


def main() -> None:
    """Build, run twice, print a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="huge")
    parser.add_argument("--backend", default="torch", choices=list(BACKENDS))
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--classes", type=int, default=105)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    config = network_spec(asked.size, 1, asked.classes, strides=PUBLISHED_STRIDES)
    with torch.device("meta"):
        macs = count_macs(build(config).eval(), torch.empty(1, 1, *WINDOW))
    network = build(config).eval()
    parameters = sum(tensor.numel() for tensor in network.parameters())
    start = time.perf_counter()
    backend = BACKENDS[asked.backend]([network], torch.device("cpu"), asked.precision, WINDOW)
    made = time.perf_counter() - start
    window_BCZYX = torch.randn(1, 1, *WINDOW)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        features = backend.run(window_BCZYX)
        seconds.append(time.perf_counter() - start)
    assert features.isfinite().all()
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    peak, swapped = (int(status[key].split()[0]) * 1024 / 1e9 for key in ("VmHWM", "VmSwap"))
    print(f"{asked.size}: {parameters / 1e6:.0f} M parameters, {macs / 1e9:.0f} GMAC a window, {asked.classes} classes")
    print(f"{asked.backend}, {asked.precision}, {asked.threads} threads, load average {os.getloadavg()[0]:.1f}\n")
    print("| making the backend, s | first window, s | second window, s | GMAC/s | peak memory, GB | swapped, GB |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {made:.1f} | {seconds[0]:.1f} | {seconds[1]:.1f} | {macs / 1e9 / seconds[1]:.0f} | {peak:.2f} "
        f"| {swapped:.2f} |"
    )


if __name__ == "__main__":
    main()
