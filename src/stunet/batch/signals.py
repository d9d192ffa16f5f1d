"""SIGTERM and Ctrl-C end a batch: they are noted, and whoever waits for workers looks at the note."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from stunet.errors import Stopped


@dataclass
class Noted:
    """The signal that came.

    Attributes:
        number: of the last signal; None if none came.
    """

    number: int | None = None

    def raise_stopped(self) -> None:
        """Raise Stopped if a signal came."""
        if self.number is not None:
            raise Stopped("Stopped. What is finished is kept. Run the same command to go on.", 128 + self.number)


@contextmanager
def noting_signals() -> Iterator[Noted]:
    """SIGTERM and Ctrl-C are noted within, and the handlers of before are put back; only a main thread can listen."""
    noted = Noted()

    def note(number: int, frame: Any) -> None:
        """The handler."""
        noted.number = number

    with ExitStack() as handlers:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                handlers.callback(signal.signal, number, signal.signal(number, note))
        yield noted
