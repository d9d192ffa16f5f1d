"""The ledger of a batch: for each scan a short history of numbered files, which many workers write without a server.

What happens to a scan is an event: a worker claims it, finishes it, fails, gives it back or dies. Event number n of a
scan is one small file, created exclusively. So a worker that appends event n + 1 knows that nothing happened since it
read event n: of two workers that claim a scan one succeeds, and a worker that was taken for dead cannot finish a scan
that another has taken over. Events never change, so each is read once.
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Literal

from stunet.batch.event import Event, is_event
from stunet.batch.place import files_at
from stunet.files import as_json

LEDGER = "stunet_batch"
"""The folder in DEST with all that is known of a batch."""

MOST_TRIES = 2
"""A scan on which this many workers died is set aside."""

State = Literal["waiting", "working", "done", "failed", "set aside"]
STATES: tuple[State, ...] = ("waiting", "working", "done", "failed", "set aside")

UNREADABLE: Event = {"event": "claimed", "worker": "", "at": 0.0}
"""An event that is being written, that a crash of a machine left empty, or that is none: a claim of nobody known."""


@dataclass(frozen=True)
class ScanState:
    """What the history of a scan amounts to.

    Attributes:
        state: waiting, working, done, failed or set aside.
        events: how many there are.
        tries: how often the scan was claimed since it was last given another go.
        deaths: how many of these tries ended with the worker's death.
        last: the last event; empty where there is none.
    """

    state: State = "waiting"
    events: int = 0
    tries: int = 0
    deaths: int = 0
    last: Event = field(default_factory=dict)

    @property
    def worker(self) -> str:
        """Who has claimed it."""
        return str(self.last.get("worker", ""))

    @property
    def is_final(self) -> bool:
        """Whether nothing more is done about it."""
        return self.state not in ("waiting", "working")


def state_of(events: Sequence[Event]) -> ScanState:
    """What a history amounts to.

    >>> claimed, died = {"event": "claimed"}, {"event": "died"}
    >>> print(*(state_of(events).state for events in ([], [claimed], [claimed, died], [claimed, died] * 2)), sep=", ")
    waiting, working, waiting, set aside
    """
    recent = list(events)
    for number, event in enumerate(events):
        if event["event"] == "retry":
            recent = list(events[number + 1 :])
    kinds = [event["event"] for event in recent]
    tries, deaths = kinds.count("claimed") - kinds.count("released"), kinds.count("died")
    return ScanState(_state(kinds, deaths), len(events), tries, deaths, events[-1] if events else {})


def _state(kinds: Sequence[str], deaths: int) -> State:
    last = kinds[-1] if kinds else "retry"
    if last == "claimed":
        return "working"
    if last in ("done", "failed"):
        return last  # type: ignore[return-value]
    return "set aside" if deaths >= MOST_TRIES else "waiting"


class Ledger:
    """The histories of all scans of a batch, as far as they were read.

    Args:
        folder: `stunet_batch` in DEST; a path as of `stunet.batch.place.place`.
        name: of the process that writes, no other's; by default one that is made up.
        details: of events that are kept in memory, besides `event` and `worker`.
    """

    def __init__(self, folder: Path, name: str | None = None, details: Collection[str] = ()):
        self.folder = folder
        self.files = files_at(folder, name)
        self._details = frozenset(details) - {"event", "worker"}
        self._alike: dict[tuple[str, str], Event] = {}
        self._unreadable = self._in_memory(UNREADABLE)
        self._histories: dict[str, list[Event]] = defaultdict(list)
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Read what was written since the last time."""
        found: dict[str, set[int]] = defaultdict(set)
        for name in self.files.names(self.folder / "records"):
            key, _, number = name.rpartition(".")
            if number.isdigit():
                found[key].add(int(number))
        with self._lock:
            for key, numbers in found.items():
                self._read_on(key, numbers)

    def _read_on(self, key: str, numbers: set[int]) -> None:
        history = self._histories[key]
        if self._unreadable in history:
            del history[history.index(self._unreadable) :]
        while len(history) + 1 in numbers:
            history.append(self._read(key, len(history) + 1))

    def history(self, scan: str) -> Sequence[Event]:
        """The events of a scan that were read."""
        return self._histories.get(_key(scan), [])

    def state(self, scan: str) -> ScanState:
        """What the events that were read amount to."""
        return state_of(self.history(scan))

    def last_event(self, scan: str) -> Event | None:
        """The last event of a scan with all its details, read now; None where there is none."""
        numbers = takewhile(lambda number: self.has_event(scan, number), count(1))
        last = max(numbers, default=0)
        return self._read_whole(_key(scan), last) if last else None

    def append(self, scan: str, after: int, event: str, **details: Any) -> bool:
        """Add an event, if no other process has added one to the same history meanwhile.

        Args:
            scan: by name.
            after: the number of events that the caller knows.
            event: what happens.
            details: of it.

        Returns:
            Whether it was added.

        Raises:
            UserError: it cannot be written.
        """
        key = _key(scan)
        content: Event = {"event": event, "scan": scan, "at": round(time.time(), 3), **details}
        is_added = self.create(self._path(key, after + 1), content)
        with self._lock:
            if is_added and len(self._histories[key]) == after:
                self._histories[key].append(self._in_memory(content))
        return is_added

    def has_event(self, scan: str, number: int) -> bool:
        """Whether an event is there now."""
        return self.files.exists(self._path(_key(scan), number))

    def create(self, path: Path, content: Any) -> bool:
        """Create a JSON file of the ledger, unless it exists; see `Files.create`."""
        return self.create_lines(path, [content])

    def create_lines(self, path: Path, contents: Sequence[Any]) -> bool:
        """Create a file with a line of JSON for each content, unless it exists."""
        lines = "".join(as_json(content, indent=None) + "\n" for content in contents)
        return self.files.create(path, lines.encode())

    def staging(self, scan: str) -> Path:
        """The folder on this machine in which this process prepares the outputs of a scan."""
        return self.files.staging() / _key(scan)

    def _path(self, key: str, number: int) -> Path:
        return self.folder / "records" / key[:2] / f"{key}.{number}"

    def _read(self, key: str, number: int) -> Event:
        return self._in_memory(self._read_whole(key, number))

    def _read_whole(self, key: str, number: int) -> Event:
        try:
            event = json.loads(self.files.read(self._path(key, number)))
        except (OSError, ValueError, RecursionError):
            return UNREADABLE
        return event if is_event(event) else UNREADABLE

    def _in_memory(self, event: Event) -> Event:
        """An event with what is kept of it: there may be a million, each with the volumes of a hundred structures.

        Events without details are few different ones, and each of these is kept once: a worker runs for days.
        """
        whole = {**UNREADABLE, **event}
        key = whole["event"], whole["worker"]
        plain = self._alike.setdefault(key, {"event": key[0], "worker": key[1]})
        details = {name: whole[name] for name in self._details if name in whole}
        return {**plain, **details} if details else plain


def _key(scan: str) -> str:
    """A file name for a scan: names of scans may be as long as a file name can be."""
    return sha256(scan.encode("utf-8", "surrogateescape")).hexdigest()[:40]
