"""Workers of a batch as an array job of Slurm."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stunet.batch.member import WorkerOptions
from stunet.batch.settings import BatchFolder
from stunet.errors import UserError
from stunet.files import made_folder, replacing

SCRIPT = "slurm.sh"


@dataclass(frozen=True)
class SlurmJob:
    """An array job.

    Attributes:
        script: its file.
        job: the number that Slurm gave it; None where there is no Slurm on this machine.
    """

    script: Path
    job: str | None


def slurm_script(
    folder: BatchFolder,
    workers: int,
    options: Sequence[str],
    worker: WorkerOptions = WorkerOptions(),  # noqa: B008 (frozen)
    python: str = sys.executable,
) -> str:
    """The script of an array job with one worker in each task.

    Slurm sends SIGTERM before it ends a task, and the worker then gives back its scans. A task of a node that fails is
    queued again.

    Args:
        folder: of the batch, seen under the same path by all nodes.
        workers: how many tasks.
        options: of sbatch, such as "partition=gpu" or "exclusive".
        worker: options of each worker.
        python: the interpreter that has stunet.
    """
    logs = str(folder.ledger / "slurm").replace("%", "%%")
    directives = [
        "job-name=stunet",
        f"array=0-{workers - 1}",
        f'output="{logs}/%A_%a.log"',
        "open-mode=append",
        "requeue",
        *(option.removeprefix("--") for option in options),
    ]
    given = {"--threads": worker.threads, "--scan-timeout": worker.scan_timeout}
    chosen = [word for name, value in given.items() if value is not None for word in (name, f"{value:g}")]
    command = shlex.join([python, "-m", "stunet", "batch", "work", str(folder.path), *chosen])
    return "\n".join(["#!/bin/sh", *(f"#SBATCH --{directive}" for directive in directives), f"exec {command}", ""])


def submit(
    folder: BatchFolder,
    workers: int,
    options: Sequence[str],
    worker: WorkerOptions = WorkerOptions(),  # noqa: B008 (frozen)
) -> SlurmJob:
    """Write the script, and submit it where there is Slurm.

    Raises:
        UserError: the script cannot be written, or Slurm refuses it.
    """
    if not isinstance(folder.path, Path):
        raise UserError(
            f"{folder.path}: --slurm needs a folder for its script and logs. Submit a job of your own that runs stunet "
            f"batch work {folder.path}"
        )
    made_folder(folder.ledger / "slurm")
    script = folder.ledger / SCRIPT
    with replacing(script) as temporary:
        temporary.write_text(slurm_script(folder, workers, options, worker), encoding="utf-8")
    if shutil.which("sbatch") is None:
        return SlurmJob(script, None)
    answer = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise UserError(f"sbatch refused {script}: {answer.stderr.strip() or answer.stdout.strip()}")
    return SlurmJob(script, answer.stdout.strip().partition(";")[0])
