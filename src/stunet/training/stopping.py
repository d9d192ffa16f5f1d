"""SIGTERM, by which clusters announce that a job's time is up: finish the step, save, and say so."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stunet.errors import Stopped

EXIT_CODE = 128 + signal.SIGTERM
"""143, as shells report a process that SIGTERM ended."""


class TrainingStopped(Stopped):
    """A training that saved itself because it was told to stop; the message is for people."""


class StopRequest:
    """Whether this process was told to stop.

    Attributes:
        is_made: set by SIGTERM within `listening`.
    """

    def __init__(self) -> None:
        self.is_made = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGTERM is noted within, instead of ending the process. Only a process's main thread can listen."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.is_made = True
