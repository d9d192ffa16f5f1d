"""Stop on SIGTERM, which clusters send when a job's time is up, or Ctrl-C: finish the step, save, print a message."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from stunet.errors import Stopped

EXIT_CODES = {128 + number for number in (signal.SIGTERM, signal.SIGINT)}
"""143 and 130, the codes that shells report for processes ended by these signals."""


class TrainingStopped(Stopped):
    """A signal stopped the training, and its state was saved. The message is for users."""


class StopRequest:
    """Whether this process received a signal to stop.

    Attributes:
        number: the signal received within `listening`; None if there was none.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def is_made(self) -> bool:
        """Whether a signal was received."""
        return self.number is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record SIGTERM and Ctrl-C within this context instead of exiting. Only works in the main thread.

        A second Ctrl-C exits at once, unless this is one of several processes that a launcher also stops.
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
