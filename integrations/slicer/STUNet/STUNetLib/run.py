"""One segmentation on a server, in a thread of its own: a window that looks in now and then stays alive.

Slicer's main thread holds Python's lock while it draws. `look` gives the thread a moment to work; call it from a timer.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from STUNetLib.client import Job, Server, ServerError

SECONDS_BETWEEN_QUESTIONS = 0.5

SHARE_OF_UPLOAD, SHARE_OF_JOB = 0.2, 0.95
"""How far the whole is when the scan has been sent, and when the server is done."""

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        model: its name.
        classes: the only structures; empty for all.
        kind: format of the result, such as "seg.nrrd" or "nifti".
    """

    model: str
    classes: tuple[str, ...] = ()
    kind: str = "seg.nrrd"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        state: `RUNNING`, `DONE`, `FAILED` or `CANCELLED`.
        fraction: 0 to 1; never falls.
        sentence: what is done now, or why it failed.
        warnings: sentences that whoever uses the labels should read.
    """

    state: str
    fraction: float
    sentence: str
    warnings: tuple[str, ...] = ()


class _CancelledError(Exception):
    """The user has had enough."""


class Run:
    """Sends a scan, waits for the labels, and fetches them; the server forgets both afterwards.

    Args:
        server: to ask.
        scan: file to send.
        order: what is asked for.
        result: file to write.
    """

    def __init__(self, server: Server, scan: Path, order: Order, result: Path):
        self._server, self._scan, self._order, self._result = server, scan, order, result
        self._cancel = Event()
        self._progress = Progress(RUNNING, 0.0, "Connecting")
        self._thread = Thread(target=self._run, name="STUNet", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def look(self, seconds: float = 0.02) -> Progress:
        """How far it is, after the thread has had so much time."""
        self._thread.join(seconds)
        return self._progress

    def cancel(self) -> None:
        """End it soon; the state says when."""
        self._cancel.set()

    def _run(self) -> None:
        try:
            warnings = self._segment()
            self._progress = Progress(DONE, 1.0, "Done", warnings)
        except _CancelledError:
            self._progress = Progress(CANCELLED, self._progress.fraction, "Cancelled")
        except ServerError as error:
            self._progress = Progress(FAILED, self._progress.fraction, str(error))
        except OSError as error:
            sentence = f"A file cannot be written or read ({error.strerror or error})."
            self._progress = Progress(FAILED, self._progress.fraction, sentence)
        except Exception as error:  # a window that waits forever would be worse
            sentence = f"Internal error of the STUNet module: {type(error).__name__}: {error}"
            self._progress = Progress(FAILED, self._progress.fraction, sentence)

    def _segment(self) -> tuple[str, ...]:
        self._server.require_same_version()
        scan = self._server.upload(self._scan, self._on_sent)
        try:
            job = self._server.submit(scan, self._order.model, self._order.classes)
            try:
                done = self._wait(job)
                self._server.save(job.name, self._order.kind, self._result, self._on_received)
            finally:
                with suppress(ServerError):
                    self._server.delete(job.name)  # this also ends a job that still runs
        finally:
            with suppress(ServerError):
                self._server.delete_scan(scan)
        return done.warnings

    def _wait(self, job: Job) -> Job:
        while job.state not in ENDED:
            self._tell(SHARE_OF_UPLOAD + job.progress * (SHARE_OF_JOB - SHARE_OF_UPLOAD), sentence_of(job))
            self._cancel.wait(SECONDS_BETWEEN_QUESTIONS)
            self._require_wanted()
            job = self._server.job(job.name)
        if job.state != DONE:
            raise ServerError(job.error or f"The server says that the segmentation was {job.state}.")
        return job

    def _on_sent(self, sent: int, total: int) -> None:
        self._tell(SHARE_OF_UPLOAD * sent / total, f"Sending the scan: {sent / total:.0%}")
        self._require_wanted()

    def _on_received(self, received: int, total: int) -> None:
        share = received / total if total else 1.0
        self._tell(SHARE_OF_JOB + (1 - SHARE_OF_JOB) * share, "Fetching the result")
        self._require_wanted()

    def _tell(self, fraction: float, sentence: str) -> None:
        self._progress = Progress(RUNNING, max(fraction, self._progress.fraction), sentence)

    def _require_wanted(self) -> None:
        if self._cancel.is_set():
            raise _CancelledError


def sentence_of(job: Job) -> str:
    """What a job is doing, for people.

    >>> sentence_of(Job("a", "queued", "queued", 2, 0, 0, 0.0, None, None, ()))
    'Waiting: 2 jobs are before this one'
    >>> sentence_of(Job("a", "running", "windows", 0, 3, 20, 0.3, 100.0, None, ()))
    'Window 3 of 20, about 2 minutes left'
    """
    if job.state == "queued":
        return f"Waiting: {job.ahead} {'job is' if job.ahead == 1 else 'jobs are'} before this one"
    doing = f"Window {job.window} of {job.windows}" if job.stage == "windows" else job.stage.capitalize()
    return doing + (f", {_about(job.seconds_left)} left" if job.seconds_left else "")


def _about(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes} minute{'s' if minutes > 1 else ''}"
