"""Which workers are alive: each shows a heartbeat, and one whose heartbeat stands still for long is taken for dead.

No clock is compared with another. An observer measures with its own monotonic clock how long a heartbeat has not
changed, so clocks of machines may differ and go back. Where observer and worker run on one Linux machine, the system
says at once whether the process still exists.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from stunet.batch.place import Files, files_at
from stunet.errors import OutputError
from stunet.files import as_json

BEAT_SECONDS = 15.0
"""Between two heartbeats."""

LEASE_SECONDS = 180.0
"""A heartbeat that stands still so long is that of a dead worker. NFS clients may see a change a minute late."""


@dataclass(frozen=True)
class Worker:
    """A process that works on scans.

    Attributes:
        name: no other worker's, ever.
        host: the machine and, on Linux, its start and the space of process numbers that `process` belongs to.
        process: its number.
        started: when the process started, in ticks since the machine did; None where the system does not say.
    """

    name: str
    host: str
    process: int
    started: int | None

    @staticmethod
    def here() -> "Worker":
        """This process."""
        machine = socket.gethostname()
        process = os.getpid()
        return Worker(f"{machine}-{process}-{secrets.token_hex(4)}", _host(), process, _start_of(process))

    @property
    def is_gone(self) -> bool:
        """Whether it ran on this machine and ended. False where that cannot be known."""
        return self.started is not None and self.host == _host() and _start_of(self.process) != self.started


def _host() -> str:
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _start_of(process: int) -> int | None:
    """When a process started; None where there is none, or only what its parent has not collected yet."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@contextmanager
def heartbeat(folder: Path, worker: Worker, seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """Within, the worker is seen to be alive.

    Args:
        folder: `workers` of the ledger.
        worker: this process.
        seconds: between two beats.

    Raises:
        UserError: the folder cannot be written.
    """
    files = files_at(folder.parent, worker.name)
    files.write(folder / f"{worker.name}.json", as_json(asdict(worker)).encode())
    path, ended = _beat_file(folder, worker.name), threading.Event()
    _beat(files, path, 0)
    beats = threading.Thread(target=_beat_on, args=(files, path, ended, seconds), daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()


def _beat(files: Files, path: Path, number: int) -> None:
    with suppress(OutputError):  # a beat that is missed costs nothing, and many of them the claims
        files.write(path, f"{number:12d}\n".encode())


def _beat_on(files: Files, path: Path, ended: threading.Event, seconds: float) -> None:
    for number in count(1):
        if ended.wait(seconds):
            return
        _beat(files, path, number)


def live_workers(folder: Path, lease: float = LEASE_SECONDS) -> set[str]:
    """The workers that seem to be alive at one glance: how old a heartbeat is, is measured by the newest one.

    Args:
        folder: `workers` of the ledger.
        lease: seconds after which a heartbeat that stands still is that of a dead worker.
    """
    beats = {path.stem: path.stat().st_mtime for path in folder.glob("*.beat")}
    newest = max(beats.values(), default=0.0)
    watch = Watch(folder, lease)
    return {name for name, beat in beats.items() if newest - beat <= lease and not watch.is_dead(name)}


def _beat_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.beat"


class Watch:
    """Says which workers have died, as seen by this process.

    Args:
        folder: `workers` of the ledger.
        lease: seconds after which a heartbeat that stands still is that of a dead worker.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, folder: Path, lease: float = LEASE_SECONDS, now: Callable[[], float] = time.monotonic):
        self._folder = folder
        self._files = files_at(folder.parent)
        self._lease = lease
        self._now = now
        self._workers: dict[str, Worker] = {}
        self._seen: dict[str, tuple[str, float]] = {}

    def is_dead(self, name: str) -> bool:
        """Whether a worker is known to have ended, or its heartbeat stood still for longer than the lease."""
        worker = self._worker(name)
        if worker is not None and worker.is_gone:
            return True
        beat = self._beat_of(name)
        before = self._seen.get(name)
        if before is None or before[0] != beat:
            self._seen[name] = (beat, self._now())
            return False
        return self._now() - before[1] > self._lease

    def _worker(self, name: str) -> Worker | None:
        if name not in self._workers:
            with suppress(OSError, ValueError, TypeError):
                described: dict[str, Any] = json.loads(self._files.read(self._folder / f"{name}.json"))
                self._workers[name] = Worker(**described)
        return self._workers.get(name)

    def _beat_of(self, name: str) -> str:
        with suppress(OSError, ValueError):
            return self._files.read(_beat_file(self._folder, name)).decode()
        return ""
