"""Runs a function in a process of its own, and disturbs it at one of its steps on files, by a signal or otherwise.

A step is what Python is about to do to a file or folder below a watched folder: open it to write, rename, remove, or
make it. Python's audit hooks hear of each, so the tested code has no hook of its own, and every step is a point.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

FILE_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")

PATIENCE_SECONDS = 120

PRELOADED = ["stunet.cli.main", "stunet.cli.segmenting", "stunet.inference.predictor", "stunet.pictures.preview"]
"""What the processes share, so that each starts at once. None of it starts a thread."""


@dataclass(frozen=True)
class Run:
    """How a process ended.

    Attributes:
        exit_code: negative for a signal.
        steps: what it was about to do to files, in order: "open labels.nii.gz".
        said: what it wrote to stderr.
    """

    exit_code: int
    steps: tuple[str, ...]
    said: str


def signalled(number: signal.Signals) -> Callable[[], None]:
    """What sends the process that calls it a signal."""
    return partial(_signal_own_process, number)


def _signal_own_process(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


KILLED = signalled(signal.SIGKILL)


def run_until(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    folder: Path,
    point: int | None = None,
    disturb: Callable[[], None] = KILLED,
) -> Run:
    """Call a function of a module in a process of its own.

    Args:
        function: of a module.
        arguments: of the function.
        folder: is watched for steps.
        point: the step before which the process is disturbed, counted from 0; None for never.
        disturb: is called in the process then.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    read, write = context.Pipe(duplex=False)
    with NamedTemporaryFile() as said:
        order = (function, tuple(arguments), str(folder), point, disturb, write, said.name)
        process = context.Process(target=_carry_out, args=order)
        process.start()
        write.close()
        steps = list(_received(read))
        process.join(PATIENCE_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"still running {PATIENCE_SECONDS} s after {steps[-1:]}")
        return Run(process.exitcode, tuple(steps), said.read().decode())


def _received(pipe: Connection) -> Iterator[str]:
    """All that comes until the other side ends."""
    with suppress(EOFError):
        while True:
            yield pipe.recv()


def command(arguments: Sequence[str]) -> None:
    """What the program does with its arguments."""
    from stunet.cli.main import run

    sys.exit(run(list(arguments)))


def _carry_out(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    folder: str,
    point: int | None,
    disturb: Callable[[], None],
    steps: Connection,
    said: str,
) -> None:
    with open(said, "ab") as file:
        os.dup2(file.fileno(), 2)
    count = 0

    def hear(event: str, details: tuple[Any, ...]) -> None:
        nonlocal count
        step = _step(event, details, folder)
        if step is not None and os.getpid() == own:
            steps.send(step)
            count += 1
            if count - 1 == point:
                disturb()

    own = os.getpid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
    sys.addaudithook(hear)
    function(*arguments)


def _step(event: str, details: tuple[Any, ...], folder: str) -> str | None:
    """What is about to be done to which file below the folder."""
    if event == "open":
        path, mode, flags = details
        if not (mode and set(mode) & set("wax+")) and not (
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        ):
            return None
    elif event in FILE_EVENTS:
        path = details[0]
    else:
        return None
    if isinstance(path, int) or not os.fsdecode(path).startswith(folder):
        return None
    return f"{event.removeprefix('os.')} {os.path.relpath(os.fsdecode(path), folder)}"
