"""One worker of a crew: its process, and how the crew talks to it.

A process needs seconds before it can work, most of them to load torch. So it may be started before it is known what it
works on: the folder of the batch and its options come through a pipe. This file does not use torch.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Union

from stunet.batch.threads import let_waiting_threads_sleep, usual_threads
from stunet.errors import UserError

if TYPE_CHECKING:
    from stunet.batch.ends import ScanEnd


@dataclass(frozen=True)
class Refusal:
    """What ends a batch: a worker cannot load the model, or cannot write.

    Attributes:
        sentence: why.
    """

    sentence: str


Report = Union["ScanEnd", Refusal]


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker works.

    Attributes:
        threads: to compute with; None for as many as torch would take.
        scan_timeout: seconds that a scan may take; None for no limit.
    """

    threads: int | None = None
    scan_timeout: float | None = None


Entry = Callable[[Connection], None]
"""What a worker's process does. From the pipe it receives DEST and its `WorkerOptions`, and it sends reports."""


def enter(pipe: Connection) -> None:
    """The whole life of a worker's process.

    Args:
        pipe: to the process that started this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the first of them passes it on
    let_waiting_threads_sleep()
    import stunet.batch.worker
    import stunet.inference.predictor  # noqa: F401 (takes seconds, in which the batch may still be checked)

    with suppress(EOFError):  # the batch has been refused
        folder, options = pipe.recv()
        _work_on(folder, options, pipe)


def _work_on(folder: Path, options: WorkerOptions, pipe: Connection) -> None:
    import torch

    from stunet.allocator import keep_freed_memory
    from stunet.batch.settings import BatchFolder
    from stunet.batch.worker import work

    threads = options.threads or usual_threads()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    keep_freed_memory()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    sending = threading.Lock()

    def tell(report: Report) -> None:
        """Send a report, from any thread; if nobody listens any more, stop."""
        try:
            with sending:
                pipe.send(report)
        except OSError:  # whoever started this process is gone
            stop.set()

    try:
        work(BatchFolder(folder), stop, tell, scan_timeout=options.scan_timeout)
    except UserError as error:
        tell(Refusal(str(error)))


@dataclass
class Member:
    """One worker of a crew."""

    process: BaseProcess
    pipe: Connection
    reports: list[Report] = field(default_factory=list)

    @staticmethod
    def start(entry: Entry = enter) -> "Member":
        """Start a process, not forked: a fork would copy no threads."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=entry, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return Member(process, ours)

    def assign(self, folder: Path, options: WorkerOptions) -> None:
        """Have it work on a batch."""
        with suppress(OSError):  # it has died, which the crew will see
            self.pipe.send((folder, options))

    def news(self) -> Iterator[Report]:
        """What it has reported since the last time."""
        with suppress(EOFError, OSError):
            while self.pipe.poll():
                report = self.pipe.recv()
                self.reports.append(report)
                yield report

    @property
    def has_died(self) -> bool:
        """Whether it ended otherwise than by returning."""
        return self.process.exitcode not in (None, 0)

    def kill(self) -> None:
        """End its process at once."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextmanager
def waiting_member() -> Iterator[Member]:
    """A worker that loads what it needs and waits for an assignment. If it still runs in the end, it is killed."""
    member = Member.start()
    try:
        yield member
    finally:
        member.kill()
