"""SIGTERM, by which clusters announce that a job's time is up, and Ctrl-C: finish the step, save, and say so."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from stunet.errors import Stopped

EXIT_CODES = {128 + number for number in (signal.SIGTERM, signal.SIGINT)}
"""143 and 130, as shells report a process that a signal ended."""


class TrainingStopped(Stopped):
    """A training that saved itself because it was told to stop; the message is for people."""


class StopRequest:
    """Whether this process was told to stop.

    Attributes:
        number: the signal that came within `listening`; None if none did.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def is_made(self) -> bool:
        """Whether a signal came."""
        return self.number is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C are noted within, instead of ending the process. Only its main thread can listen.

        A second Ctrl-C ends the process at once, unless it is one of several that a launcher tells to stop, too.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with ExitStack() as handlers:
            for number in (signal.SIGTERM, signal.SIGINT):
                handlers.callback(signal.signal, number, signal.signal(number, self._note))
            yield

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.number == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt
        self.number = number
