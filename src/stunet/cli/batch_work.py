"""What `stunet batch` and `stunet batch work` have in common: workers on this machine, and what they show."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from stunet.cli.command import BAD_INPUT, DONE, FAILED, Options
from stunet.cli.output import MESSAGES, RESULTS, Switch, print_json, print_table, progress_bar
from stunet.errors import Stopped, UserError

if TYPE_CHECKING:
    from stunet.batch.ends import ScanEnd
    from stunet.batch.member import Member, WorkerOptions
    from stunet.batch.start import Started
    from stunet.batch.status import BatchStatus

SHOWN_ERRORS = 10
"""Sentences of failed scans that are shown; --json and --table have all."""


@dataclass(kw_only=True)
class BatchWork(Options):
    """The options of commands that start workers."""

    workers: int = 1
    """How many processes segment at a time, each with its own model. Fewer if memory is short or little is left."""
    scan_timeout: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Set a scan aside that takes longer, in reading, segmenting and writing together. Default: no limit."""
    retry: Switch = False
    """Try scans again that failed or were set aside."""

    def require_workers(self) -> None:
        """Raises UserError for a number of workers or a time that cannot be."""
        if self.workers < 1:
            raise UserError(f"--workers is 1 or more, not {self.workers}.")
        if self.scan_timeout is not None and not self.scan_timeout > 0:
            raise UserError(f"--scan-timeout is above 0 seconds, not {self.scan_timeout}.")

    @property
    def worker_options(self) -> "WorkerOptions":
        """Of the workers together on this machine; of each of them with --slurm and --cluster."""
        from stunet.batch.member import WorkerOptions

        return WorkerOptions(self.threads, self.scan_timeout)

    def work_on(self, started: "Started", waiting: "Member") -> int:
        """Work until no scan is left, with a worker that waits already, and show how it ended."""
        from stunet.batch.crew import Crew

        with progress_bar(f"{started.scans} scans") as update:
            progress = _Progress(started, update)
            crew = Crew(
                started.folder,
                max(1, min(self.workers, started.open)),
                self.worker_options,
                progress.after_scan,
                say,
                started.peak_memory,
                started.open,
                waiting=waiting,
            )
            if started.open:
                try:
                    crew.run()
                except Stopped as stop:
                    return say_stopped(stop)
        return self.show_end(started)

    def show_end(self, started: "Started") -> int:
        """Show what became of the batch."""
        from stunet.batch.status import BatchReader

        status = BatchReader(started.folder).status()
        if self.json:
            print_json(asdict(status))
        else:
            show_status(started.folder.path, status, MESSAGES)
        return labels_outcome(status)


class _Progress:
    """Scans that are done; a line for each where there is no terminal."""

    def __init__(self, started: "Started", update: Callable[..., None]):
        self._done, self._total, self._update = started.scans - started.open, started.scans, update
        update(self._done, self._total)

    def after_scan(self, end: "ScanEnd") -> None:
        """One more scan is done, or failed; say why."""
        self._done += 1
        self._update(self._done, self._total)
        if end.error is not None:
            say(end.error)
        elif not MESSAGES.is_terminal:
            MESSAGES.print(f"{self._done}/{self._total} {end.scan}: {end.seconds:.1f} s", soft_wrap=True)


def say(sentence: str) -> None:
    """Print a sentence on workers or scans."""
    MESSAGES.print(f"stunet: {sentence}", soft_wrap=True)


def say_stopped(stop: Stopped) -> int:
    """Print that the batch was stopped; its exit code."""
    say(str(stop))
    return stop.exit_code


def labels_outcome(status: "BatchStatus") -> int:
    """The exit code of a batch: whether there are scans that failed."""
    if not status.errors:
        return DONE
    return FAILED if "internal error" in status.failures else BAD_INPUT


def show_status(folder: object, status: "BatchStatus", console: Console = RESULTS) -> None:
    """The table for people."""
    rows = [(state, str(count)) for state, count in status.states.items() if count]
    rows += [(f"  {kind}", str(count)) for kind, count in status.failures.items()]
    rows += _pace_rows(status)
    print_table(f"{folder}: {status.scans} scans", ("", "value"), rows, console)
    for sentence in list(status.errors.values())[:SHOWN_ERRORS]:
        console.print(sentence, soft_wrap=True)
    if len(status.errors) > SHOWN_ERRORS:
        console.print(f"{len(status.errors) - SHOWN_ERRORS} more failed; --json and --table list them.")


def _pace_rows(status: "BatchStatus") -> list[tuple[str, str]]:
    """How fast it goes, as far as that is known."""
    known = {
        "workers": str(status.workers or ""),
        "scans an hour": "" if status.scans_per_hour is None else f"{status.scans_per_hour:,.1f}",
        "time left": _span(status.seconds_left) if status.seconds_left else "",
        "seconds a scan": f"{status.mean_seconds['total']:.2f}" if status.mean_seconds else "",
        "peak memory": "" if status.peak_memory_mib is None else f"{status.peak_memory_mib:,} MiB",
    }
    return [(name, value) for name, value in known.items() if value]


def _span(seconds: float) -> str:
    """A time in words of two units at most.

    >>> _span(59), _span(3600 * 5 + 60), _span(86400 * 3 + 3600)
    ('59 s', '5 h 1 min', '3 d 1 h')
    """
    days, hours, minutes = int(seconds // 86400), int(seconds // 3600 % 24), int(seconds // 60 % 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
