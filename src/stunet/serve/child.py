"""A separate process for work that may need too much memory or may not end. The server survives it.

`Child` is the server's side; `_serve` runs in the process. It carries out one call after the other and keeps the state
of its modules between calls, such as a loaded model. It ends with the server, even if the server is killed.
"""

import logging
import multiprocessing
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from stunet.errors import NotEnoughMemoryError, Stopped, UserError

logger = logging.getLogger(__name__)

OnTold = Callable[[Any], None]
"""Called with what a call reports while it works."""

OOM_SCORE = "500"
"""If memory runs out, Linux ends this process rather than another."""


class ChildEndedError(Exception):
    """The process ended before it answered: it was killed, or memory ran out."""


class InternalError(Exception):
    """A bug in stunet; the log says where."""


@dataclass(frozen=True)
class _Call:
    """A call. If `is_followed`, the function takes `tell` and `stop` after its own arguments."""

    number: int
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    is_followed: bool


@dataclass(frozen=True)
class _Told:
    """What a call reports while it works."""

    value: Any


@dataclass(frozen=True)
class _Answer:
    """The result of a call: a value or an error, and where an internal error happened."""

    value: Any = None
    error: Exception | None = None
    where: str = ""


@dataclass(frozen=True)
class _Stop:
    """Ask a call to end. If it is over already, nothing happens."""

    number: int


class Child:
    """Runs functions in a separate process, one at a time. The process starts with the first call.

    Args:
        name: of the process.
    """

    def __init__(self, name: str):
        self._name = name
        self._busy, self._sending = Lock(), Lock()
        self._number = 0
        self._process: BaseProcess | None = None
        self._line: Connection | None = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of a module. Function, arguments and result must be picklable.

        Raises:
            UserError: what the function raises.
            ChildEndedError: the process ended.
            InternalError: anything else that the function raised.
        """
        return self._run(function, arguments, None)

    def follow(self, function: Callable[..., Any], *arguments: Any, on_told: OnTold) -> Any:
        """Like `call`, for a function that takes `tell` (a callable) and `stop` (an event) after its own arguments.

        Args:
            on_told: called with what the function reports.

        Raises:
            Stopped: `stop` was called.
        """
        return self._run(function, arguments, on_told)

    def stop(self) -> None:
        """Ask the present call to end."""
        with self._sending, suppress(OSError):
            if self._line is not None:
                self._line.send(_Stop(self._number))

    def end(self) -> None:
        """End the process at once; the next call starts another."""
        process = self._process
        if process is not None:
            process.kill()

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...], on_told: OnTold | None) -> Any:
        with self._busy:
            try:
                with self._sending:
                    line = self._started()
                    self._number += 1
                    line.send(_Call(self._number, function, arguments, on_told is not None))
                while isinstance(message := line.recv(), _Told):
                    assert on_told is not None
                    on_told(message.value)
            except BaseException as error:  # `on_told` may have failed, and what the process says next is of no use
                with self._sending:
                    self._buried()
                if isinstance(error, EOFError | OSError):
                    raise ChildEndedError from error
                raise
            return _unpacked(message)

    def _started(self) -> Connection:
        """The connection to the process; starts the process if there is none."""
        if self._line is not None and self._process is not None and self._process.is_alive():
            return self._line
        self._buried()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name=self._name, daemon=True)
        self._process.start()
        theirs.close()
        self._line = ours
        return ours

    def _buried(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._line is not None:
            self._line.close()
        self._process = self._line = None


def _unpacked(answer: _Answer) -> Any:
    if answer.where:
        logger.error("Internal error in a process of the server:\n%s", answer.where)
    if answer.error is not None:
        raise answer.error
    return answer.value


def _serve(line: Connection) -> None:
    """The process: carry out calls until the server is gone."""
    _be_quiet()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    calls: SimpleQueue[tuple[_Call, Event]] = SimpleQueue()
    Thread(target=_listen, args=(line, calls), daemon=True).start()
    while True:
        call, stop = calls.get()
        line.send(_carried_out(call, lambda value: line.send(_Told(value)), stop))


def _be_quiet() -> None:
    """Silence libraries: their warnings about a file may contain data of the patient."""
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which ends this process


def _listen(line: Connection, calls: "SimpleQueue[tuple[_Call, Event]]") -> None:
    """Listen to the server while a call works; end the process if the server is gone."""
    number, stop = 0, Event()
    try:
        while True:
            message = line.recv()
            if isinstance(message, _Call):
                number, stop = message.number, Event()
                calls.put((message, stop))
            elif message.number == number:
                stop.set()
    except (EOFError, OSError):
        os._exit(1)


def _carried_out(call: _Call, tell: OnTold, stop: Event) -> _Answer:
    try:
        extra = {"tell": tell, "stop": stop} if call.is_followed else {}
        return _Answer(call.function(*call.arguments, **extra))
    except (UserError, Stopped) as error:
        return _Answer(error=error)
    except MemoryError:
        return _Answer(error=NotEnoughMemoryError("Not enough memory on the server for this scan."))
    except Exception as error:
        return _Answer(error=InternalError(), where=f"{places_of(error)}{type(error).__name__}")


def places_of(error: BaseException) -> str:
    """Where an error happened, for the log. Its message is left out, because it may contain a patient's data."""
    return "".join(traceback.format_tb(error.__traceback__))
