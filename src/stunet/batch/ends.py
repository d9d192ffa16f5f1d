"""How scans end: a scan that the ledger records as done is also reported, even if its worker ends at once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from stunet.batch.claims import Claims


@dataclass(frozen=True)
class ScanEnd:
    """What a worker reports about a scan.

    Attributes:
        scan: by name.
        seconds: from reading to labels; 0 where it failed.
        error: why it failed, as a sentence; None where it is done.
        peak_memory: the most bytes that the worker ever had; None where the system does not say.
    """

    scan: str
    seconds: float
    error: str | None
    peak_memory: int | None


class Ends:
    """Records and reports the ends of one worker's scans, from any thread.

    Args:
        claims: of the worker.
        tell: called with each failure, and with each scan that is done.
    """

    def __init__(self, claims: Claims, tell: Callable[[ScanEnd], None]):
        self._claims = claims
        self._tell = tell
        self._lock = threading.Lock()

    def record(self, end: ScanEnd, event: str, **details: object) -> bool:
        """Record how a scan ended, and report it. A finished scan is reported only if it counts.

        Args:
            end: of the scan.
            event: done or failed.
            details: of the event.

        Returns:
            Whether it counts; see `Claims.end`.
        """
        with self._lock:
            return self._record(end, event, details)

    def record_last(self, end: ScanEnd, event: str, **details: object) -> None:
        """Record the end of a scan and give the others back, before the process ends: no thread can record any more."""
        self._lock.acquire()  # for good
        self._record(end, event, details)
        self._claims.release()

    def _record(self, end: ScanEnd, event: str, details: dict[str, object]) -> bool:
        counts = self._claims.end(end.scan, event, **details)
        if counts or end.error is not None:
            self._tell(end)
        return counts
