"""Run a command as a user would, and measure its seconds and the memory of all its processes."""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil


class CommandError(Exception):
    """A command ended with an error; the message holds the end of its output."""


@dataclass(frozen=True)
class Run:
    """The measurements of a command.

    Attributes:
        name: of the system.
        seconds: from its start to its end.
        peak_bytes: resident memory of the process and its children.
        labels: the file it wrote.
        report: stunet's record; None for other systems.
    """

    name: str
    seconds: float
    peak_bytes: int
    labels: Path
    report: dict | None = None


def measured(name: str, command: list[str], labels: Path, environment: dict[str, str]) -> Run:
    """Run a command and measure its memory.

    Raises:
        CommandError: it ended with an error.
    """
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile() as log:
        child = psutil.Popen(command, env=environment, stdout=log, stderr=log)
        while child.poll() is None:
            peak = max(peak, tree_bytes(child))
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        if child.returncode:
            log.seek(0)
            raise CommandError(f"{name}: {' '.join(command)} failed:\n{log.read().decode()[-3000:]}")
    record = labels.with_name(labels.name.replace(".nii.gz", ".report.json"))
    return Run(name, seconds, peak, labels, json.loads(record.read_text()) if record.exists() else None)


def tree_bytes(process: psutil.Process) -> int:
    """Resident memory of a process and its children."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total
