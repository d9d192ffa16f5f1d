"""Measure `stunet serve` with many uploads at once: time, progress, and peak memory of each of its processes.

One scan is segmented alone first. Then several users upload at once, each a scan of its own. Memory must not grow with
the number of users: the scans wait on disk, and one is segmented at a time. Peaks are those of Linux (VmHWM).

    python bench/serve.py [--users 8] [--side 96]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import psutil

from stunet.serve.answers import JobAnswer
from stunet.serve.client import Client

MODEL = "hippocampus"


def started(data: Path) -> tuple[subprocess.Popen[str], str]:
    """A server on a free port, and its address."""
    command = [sys.executable, "-m", "stunet", "serve", "--port", "0", "--data", str(data)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "stunet serves " in line:
            return process, line.split()[2]
    raise SystemExit("The server did not start.")


def write_scan(path: Path, side: int, seed: int) -> None:
    """Write a cube of float32 noise, which does not compress."""
    array = np.random.default_rng(seed).normal(size=(side, side, side)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def segmented(url: str, scan: Path) -> list[JobAnswer]:
    """Upload and segment a scan. Returns the job at each change."""
    with Client(url) as client:
        return list(client.follow(client.submit(client.upload(scan), MODEL)))


class Processes:
    """The server's processes, by what they do."""

    def __init__(self, server: int):
        children = sorted(psutil.Process(server).children(), key=lambda child: child.memory_info().rss)
        worker = children.pop()  # it alone has loaded torch
        self._pids = {"server": [server], "worker": [worker.pid], "others": [child.pid for child in children]}

    def forget_peaks(self) -> None:
        """Let the peaks begin at what is used now."""
        for pid in (pid for pids in self._pids.values() for pid in pids):
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peaks(self) -> dict[str, float]:
        """Peak memory in MB."""
        return {name: sum(map(_peak_of, pids)) for name, pids in self._pids.items()}


def _peak_of(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


def is_monotone(jobs: Sequence[JobAnswer]) -> bool:
    """Whether progress never falls and the queue before a job never grows."""
    progress, ahead = [job.progress for job in jobs], [job.ahead for job in jobs]
    return progress == sorted(progress) and ahead == sorted(ahead, reverse=True)


def measure(url: str, processes: Processes, scans: Sequence[Path]) -> str:
    """Segment scans at once. Returns a row of the table."""
    processes.forget_peaks()
    start = time.perf_counter()
    with ThreadPoolExecutor(len(scans)) as pool:
        results = list(pool.map(lambda scan: segmented(url, scan), scans))
    seconds = time.perf_counter() - start
    peaks = processes.peaks()
    done = sum(jobs[-1].state == "done" for jobs in results)
    monotone = sum(map(is_monotone, results))
    uploaded = sum(scan.stat().st_size for scan in scans) / 1e6
    cells = [len(scans), done, monotone, max(jobs[0].ahead for jobs in results), f"{uploaded:.0f}", f"{seconds:.0f}"]
    return " | ".join(map(str, [*cells, *(f"{mb:.0f}" for mb in peaks.values()), f"{sum(peaks.values()):.0f}"]))


def main() -> None:
    """Measure one user and several, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--side", type=int, default=96)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = [folder / f"{number}.nii.gz" for number in range(asked.users)]
        for number, scan in enumerate(scans):
            write_scan(scan, asked.side, number)
        server, url = started(folder / "data")
        try:
            segmented(url, scans[0])  # the model is loaded, and lazy imports are done
            processes = Processes(server.pid)
            print(
                "| users | done | monotone | most ahead | uploaded, MB | seconds | server, MB | worker | others | all |"
            )
            print("|---|---|---|---|---|---|---|---|---|---|")
            for some in (scans[:1], scans):
                print(f"| {measure(url, processes, some)} |", flush=True)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
