"""A limit on the seconds that a worker spends on one scan, whatever it hangs in: a file server, or a library."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

LOOKS_PER_LIMIT = 20
"""How often the clock is looked at within the limit, so that it is exceeded by a twentieth at most."""

LONGEST_LOOK = 1.0
"""The most seconds between two looks."""

TOOK_TOO_LONG = 75
"""Exit code of a worker that ended because a scan took too long."""


class TimeLimit:
    """Counts the seconds that are spent on each scan; those in which a scan waits for another do not count.

    Args:
        seconds: that a scan may take; None for no limit.
        exceed: called once, in another thread, with the name of the scan that took longer.
    """

    def __init__(self, seconds: float | None, exceed: Callable[[str], None]):
        self._limit = seconds
        self._exceed = exceed
        self._spent: dict[str, float] = defaultdict(float)
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def counting(self, scan: str) -> Iterator[None]:
        """Within, time is spent on the scan."""
        with self._lock:
            self._since[scan] = monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._spent[scan] += monotonic() - self._since.pop(scan)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within, the limit holds."""
        if self._limit is None:
            yield
            return
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(self._limit, ended), name="stunet-limit", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, limit: float, ended: threading.Event) -> None:
        while not ended.wait(min(LONGEST_LOOK, limit / LOOKS_PER_LIMIT)):
            late = self._late(limit)
            if late is not None:
                self._exceed(late)
                return

    def _late(self, limit: float) -> str | None:
        with self._lock:
            now = monotonic()
            spent = {scan: self._spent[scan] + now - since for scan, since in self._since.items()}
        return next((scan for scan, seconds in spent.items() if seconds > limit), None)
